"""Brings data, model, solver and evaluation together into runs."""
