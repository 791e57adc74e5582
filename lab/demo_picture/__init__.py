"""The picture of `authproxy demo` on a terminal, docs/demo.svg."""
