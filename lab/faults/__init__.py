"""The fault matrix: each fault, brought about in front of the real proxy under steady traffic.

`pytest tests/faults` plays every row; `make reliability` writes docs/reliability.md from it.
"""
