"""Evaluation of models by slice, with pictures."""
