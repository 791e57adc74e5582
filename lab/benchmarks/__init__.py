"""What the proxy costs: see README.md beside this file."""
