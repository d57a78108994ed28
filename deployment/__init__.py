"""Running the model outside PyTorch: export, a session on ONNX Runtime, eight-bit weights and their cost."""
