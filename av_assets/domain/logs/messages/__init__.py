"""What is in a raw message: stamps, pictures, types.

Belongs here: decoding. Does not belong here: files, verdicts.
"""
