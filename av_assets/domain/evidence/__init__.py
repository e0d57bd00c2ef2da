"""Digests, manifests and stage timing: what was made from what."""
