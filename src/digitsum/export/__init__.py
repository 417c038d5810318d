"""The model for other programs: as ONNX, and as a web page."""
