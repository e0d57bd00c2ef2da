"""Erasure done: finding what is a drive's in every place of an installation, removing it, and proving it.

Belongs here: the deed. Does not belong here: what a request means and what depends on what (domain/erasure), the
records of it that stay in the lake (resources: legal_holds, tombstones, receipts).
"""
