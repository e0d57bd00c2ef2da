"""Detectors of driving events over signals and tracks."""
