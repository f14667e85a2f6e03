"""Data to a fixed-length summary: input scaling and summary networks."""
