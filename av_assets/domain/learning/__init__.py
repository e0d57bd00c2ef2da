"""How a network is taught: the loop, its state, its checkpoints, several processes at once."""
