"""Training while simulating, by the clock."""
