"""Simulating from prior and simulator: engine, bank on disk, the table of simulations."""
