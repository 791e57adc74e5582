"""Files with keys and tokens, which may be replaced while the proxy runs."""
