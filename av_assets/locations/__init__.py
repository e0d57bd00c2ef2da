"""Where the graph runs: lists of modules, split by image."""
