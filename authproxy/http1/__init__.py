"""HTTP/1.1 as it is on the wire, where both sides of the proxy need it."""
