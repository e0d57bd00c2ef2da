"""Searching for better numbers within a hard budget: what is tried next, what ends early, what won."""
