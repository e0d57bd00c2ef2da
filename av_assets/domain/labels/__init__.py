"""Auto-labels, annotators, agreement and verified labels."""
