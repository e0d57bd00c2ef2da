"""What is known of a drive, as rows for the catalog's tables."""
