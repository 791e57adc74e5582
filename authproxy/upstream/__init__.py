"""The way to the target: one request with the token, on a pooled connection."""
