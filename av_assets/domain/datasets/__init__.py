"""Splits, slices and frozen datasets."""
