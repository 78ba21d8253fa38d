"""Pages, drawings and image files for people."""
