"""Teachers: whatever predicts for a batch of images, behind one interface."""
