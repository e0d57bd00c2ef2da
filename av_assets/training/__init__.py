"""From golden data to checkpoints: workflows 13-14."""
