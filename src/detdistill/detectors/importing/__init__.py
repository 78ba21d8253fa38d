"""Detectors and weights that other libraries made."""
