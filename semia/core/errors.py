"""The root of every error family.

Each room derives its own family (``semia.training.errors``, ``semia.export.errors``, ``semia.serving.errors``,
``semia.client.errors``) from `SemiaError` and, where the caller's input is at fault, `InputError`.
"""


class SemiaError(Exception):
    """Something failed; the message names what, what was expected, and what to do."""

    exit_code = 1


class InputError(SemiaError):
    """What the caller gave is at fault; nothing was started or written."""

    exit_code = 2


class DirectoryInUseError(InputError):
    """Another process works in a directory that only one may work in at a time."""


class AccessRefusedError(SemiaError):
    """A server keeps a call to its operators, and the admin key was missing or wrong."""


class ImageError(InputError):
    """A picture file is missing, broken, too large, or not a picture."""


class LabelMapError(InputError):
    """A label map or a palette cannot be used."""


class LabelMapTypeError(LabelMapError):
    """A label map is neither a picture nor class ids: its type, dtype, shape or values are impossible."""


class LabelMapSizeError(LabelMapError):
    """A label map's proportions are not the canvas's."""


class LabelMapColorError(LabelMapError):
    """A label map has an area of a color that the palette does not know."""
