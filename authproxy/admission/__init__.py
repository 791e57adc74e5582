"""Who and what may come in."""
