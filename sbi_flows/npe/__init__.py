"""Neural posterior estimation."""
