"""What changed since, and what to do about it: workflows 25-28."""
