"""Several worker processes, their parent, and the service manager."""
