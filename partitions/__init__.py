"""Over what the graph is partitioned, each declared once: drives, calendar, releases."""
