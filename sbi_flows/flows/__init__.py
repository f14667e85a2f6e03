"""Conditional normalizing flows."""
