"""Average precision by the protocols of COCO and PASCAL VOC."""
