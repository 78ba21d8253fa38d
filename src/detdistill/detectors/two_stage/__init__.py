"""Two-stage detectors: a region proposal network on a grid, and heads that look at each proposal."""
