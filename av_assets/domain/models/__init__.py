"""Networks, training, checkpoints and export."""
