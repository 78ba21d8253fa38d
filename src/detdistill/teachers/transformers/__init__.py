"""Detectors of transformers as teachers."""
