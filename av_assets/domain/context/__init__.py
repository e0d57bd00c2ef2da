"""What surrounds a drive: weather from stations and grids, and what the vehicle itself shows of it."""
