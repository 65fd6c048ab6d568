"""What all rooms share: label maps, palettes, images, the model card, safe files, connections, errors."""

__version__ = "0.1.0"
