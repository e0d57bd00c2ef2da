"""A typed language for sequences of events, its SQL and its proof. See docs/sequences.md."""
