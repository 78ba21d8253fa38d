"""detdistill."""
