"""The synthetic rig: world, sensors, recorder, faults."""
