"""Clocks that wrote the stamps.

Belongs here: measuring, repairing, judging, drawing them. Does not belong here: other rules.
"""
