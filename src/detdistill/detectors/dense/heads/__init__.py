"""One file per detection head."""
