"""Semantic image analogy: one photograph and its label map in, a generator served by Triton out."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout, the rooms (semia.client, semia.training, ...) lie beside this folder; installed, they lie within it.
_FOLDER = Path(__file__).resolve().parent
if not (_FOLDER / "client").is_dir():
    __path__.append(str(_FOLDER.parent))
