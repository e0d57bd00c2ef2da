"""From a checkpoint to files that run elsewhere, and the proof that they compute the same."""
