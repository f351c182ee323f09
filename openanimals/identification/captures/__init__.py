"""Capture histories: who was seen when and where, and the files that say so."""
