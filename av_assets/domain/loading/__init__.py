"""Samples out of shards, in a shuffled order that depends on the seed alone, as batches of tensors.

Belongs here: where rows lie in a shard, the order of an epoch, decoding, batches, worker processes. Does not belong
here: what a network is given (`models`), how shards come onto this machine (`resources`), their making (`sync`).
"""
