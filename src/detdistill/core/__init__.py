"""What every room shares: structures, boxes, images, errors, and small helpers."""
