"""The whole loop in front of one's eyes: recorded drives go in at the landing area, an evaluated model comes out."""
