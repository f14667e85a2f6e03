"""Latent stochastic differential equations."""
