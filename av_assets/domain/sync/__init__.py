"""Bringing many clocks onto one reference grid and writing shards."""
