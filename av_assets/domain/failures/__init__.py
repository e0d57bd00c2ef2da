"""Where a model fails: kinds of errors, doubt without labels, buckets of failures, and what to label next."""
