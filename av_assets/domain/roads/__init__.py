"""Roads: maps as features, graphs and tiles, and where on them a drive went."""
