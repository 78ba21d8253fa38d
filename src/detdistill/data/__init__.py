"""Annotated images from files of every common format, and batches of them."""
