"""`av`: a thin face over the platform, one module per group of commands."""
