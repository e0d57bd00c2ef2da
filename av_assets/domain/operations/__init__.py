"""Running the platform: what a change would remake, and how long that takes."""
