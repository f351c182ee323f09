"""Helpers that know nothing of animals: registries, logging, randomness, files, processes."""
