"""How fast a model answers on this machine: in PyTorch, in ONNX Runtime, and through Triton, in one run."""
