"""From damaged logs to one valid MCAP.

Belongs here: recovery with its loss account. Does not belong here: reading whole logs.
"""
