"""What can go wrong in the studio beyond what the rooms it calls say themselves.

SemiaError
└── StudioError                       the studio failed: exits 1
    ├── FrameError (InputError)       a frame from the page makes no sense
    ├── NotFoundError (InputError)    there is no such scene, layout or photograph
    ├── ChangedError (InputError)     a file is not what the page last saw
    ├── BusyError                     another generator is being made
    └── TritonMissingError            no server answers yet: nothing is published
"""

from semia.core.errors import InputError, SemiaError


class StudioError(SemiaError):
    """The studio cannot do what was asked."""


class FrameError(StudioError, InputError):
    """A frame is broken, or is not for this canvas and these classes."""


class NotFoundError(StudioError, InputError):
    """There is no such scene, layout, photograph or label map."""


class ChangedError(StudioError, InputError):
    """A file was changed, made or deleted since the page last saw it."""


class BusyError(StudioError):
    """One generator is made at a time."""


class TritonMissingError(StudioError):
    """No Triton runs: nothing is published yet, or it ended."""
