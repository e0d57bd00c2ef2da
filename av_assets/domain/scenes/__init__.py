"""Scenes: a drive cut into stretches of 3 to 60 s, each with tags, counts and a sentence."""
