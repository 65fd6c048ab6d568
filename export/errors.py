"""What can go wrong while exporting.

ExportError(SemiaError)
├── ParityError                   the exported graph draws other pictures than PyTorch
└── TargetsError(InputError)      there is nothing to check the graph on
"""

from semia.errors import InputError, SemiaError


class ExportError(SemiaError):
    """Exporting failed; no bundle was left behind."""


class ParityError(ExportError):
    """The exported graph draws other pictures than PyTorch does; no bundle was left behind."""


class TargetsError(ExportError, InputError):
    """The label maps to check the graph on cannot be used."""
