"""Trigger policies: their versions, what contradicts in them, and what another version would have done."""
