"""The algorithms, by concept. Nothing here knows Dagster, resources, the wall clock or the network."""
