"""`authproxy demo`: the real proxy between stand-ins, which it meets over sockets only."""
