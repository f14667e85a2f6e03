"""Exact inference where the likelihood can be computed, or estimated without bias."""
