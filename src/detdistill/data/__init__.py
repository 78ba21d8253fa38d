"""Annotated images from files of every common format, and batches of them."""

from detdistill.data.classes import with_classes
from detdistill.data.opening import find_splits, open_dataset
from detdistill.data.writing.dataset import write_dataset

__all__ = ["find_splits", "open_dataset", "with_classes", "write_dataset"]
