"""From a vehicle's disk to enriched clips: workflows 1-5."""
