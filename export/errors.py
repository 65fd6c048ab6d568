"""What can go wrong while exporting. What is also an `InputError` exits 2, the rest 1."""

from semia.core.errors import InputError, SemiaError


class ExportError(SemiaError):
    """Exporting failed; no bundle was left behind."""


class BundleTakenError(ExportError, InputError):
    """Something else is where the bundle is to go."""


class ParityError(ExportError):
    """The exported graph draws other pictures than PyTorch does; no bundle was left behind."""


class EngineError(ExportError):
    """TensorRT refused the graph, or failed to build or run its engine; the bundle is as it was."""


class TensorRTMissingError(ExportError, InputError):
    """An engine was asked for on a machine that cannot build one."""


class NoKernelsError(ExportError):
    """ONNX Runtime lacks kernels for an operator of the graph, on the device asked for."""


class PrecisionError(ExportError):
    """A lower precision costs more than it may, or brings nothing; no bundle was left behind."""


class NoPrecisionError(PrecisionError, InputError):
    """The generator has no form of the precision that was asked for."""


def first_line(error: Exception) -> str:
    """What a library's error says, in one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
