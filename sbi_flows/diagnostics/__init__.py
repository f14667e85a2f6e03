"""Judges of any sampler: distances between samples, calibration over the prior."""
