"""TensorRT engines, built, added to a bundle and run."""
