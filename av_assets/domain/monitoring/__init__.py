"""Drift statistics."""
