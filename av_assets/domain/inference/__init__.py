"""A model over everything that was recorded: shard by shard, resumable, with an account of each shard."""
