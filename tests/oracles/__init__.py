"""Exact answers that fits are held against, each a simulator with its posterior."""
