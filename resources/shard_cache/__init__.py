"""Shards of a bucket on this machine's disk, by digest: shared by all its processes, within a budget."""
