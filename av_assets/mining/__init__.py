"""From shards to verified labels and golden data: workflows 6-12."""
