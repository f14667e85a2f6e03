"""Tests of any sampler: calibration over the prior, at one observation, and distances between samples."""
