"""When things happen: the house vocabulary of conditions, and the sensors."""
