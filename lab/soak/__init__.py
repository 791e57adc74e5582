"""The soak: real remote writes and queries through the proxy for long, among random faults.

`make soak` runs it, or `python -m lab.soak --seconds 60 --seed 7`. What it found at
its last full length is in docs/soak.md.
"""
