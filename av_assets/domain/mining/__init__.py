"""Which clips are worth a person's time: filters, duplicates, ranking, selection, and what is still missing."""
