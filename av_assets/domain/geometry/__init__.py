"""Rigid transforms, projections and calibration."""
