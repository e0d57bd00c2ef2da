"""Embeddings of clips and the search over them."""
