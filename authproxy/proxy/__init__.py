"""The way of a request: where it enters, where it is sent, and what comes back."""
