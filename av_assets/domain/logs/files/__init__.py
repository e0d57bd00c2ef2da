"""Log files of every format as sources of raw messages.

Belongs here: opening, scanning, bounds. Does not belong here: what messages mean.
"""
