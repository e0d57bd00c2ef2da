"""Keeping the platform honest: map and policy changes, incidents, capacity."""
