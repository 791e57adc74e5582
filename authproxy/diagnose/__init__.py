"""`authproxy check`: what is wrong, found out step by step."""
