"""The auto-labeller: sources fused, followed, judged, and written as labels."""
