"""Synchronized shards in the formats of other tools: redacted MCAP, WebDataset and Zarr v3."""
