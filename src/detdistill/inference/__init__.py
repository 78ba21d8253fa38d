"""Detectors at work on whole data sets."""
