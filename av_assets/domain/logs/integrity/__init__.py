"""Is this log good?

Belongs here: the rules, what they measure, their report. Does not belong here: reading files, clocks.
"""
