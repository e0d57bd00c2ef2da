"""Erasure as a plan: whom a request means, what depends on it, what a hold keeps. Doing it: av_assets/erasure."""
