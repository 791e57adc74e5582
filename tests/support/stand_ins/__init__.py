"""The demo's stand-ins with what tests turn: faults, records, and the rest of Entra ID."""
