"""Similarity of photographs without training: local features, matched, calibrated and fused."""
