"""Autoencoders of sentences."""
