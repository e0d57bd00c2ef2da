"""Why two results differ: made again and compared file by file, or taken apart ingredient by ingredient."""
