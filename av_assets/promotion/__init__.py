"""From checkpoints to evidence and a decision: workflows 15-18."""
