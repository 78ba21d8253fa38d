"""Datasets to files: COCO, PASCAL VOC and YOLO folders that `open_dataset` reads without options."""
