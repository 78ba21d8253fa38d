"""Distillation: terms, what brings two detectors together for them, and the distiller that adds them up."""
