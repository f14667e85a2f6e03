"""The amortised posterior: how it is fitted, used, stored, and how it judges an observation."""
