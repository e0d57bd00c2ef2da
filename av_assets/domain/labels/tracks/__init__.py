"""Things over time: where they were, where they went, which of them are one."""
