"""The problem: a prior, a simulator, how a simulator is found, observed data."""
