"""The words all rooms share: label maps and palettes, the model card, safe files, errors."""

__version__ = "0.1.0"
