"""Dense detectors: backbone, pyramid and head on one grid of cells."""
