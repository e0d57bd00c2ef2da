"""One clip for people to look at: with its boxes, tracks and events, out of redacted frames only."""
