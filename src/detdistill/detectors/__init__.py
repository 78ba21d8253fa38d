"""Dense detectors: backbone, pyramid, head, and what turns their outputs into boxes."""
