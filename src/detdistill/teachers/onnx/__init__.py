"""ONNX files with a card as teachers."""
