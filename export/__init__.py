"""From a run folder to a bundle: ``semia.export(run)``.

The package itself can be called, for ``semia.export`` is both its name and the function's: whatever imports one of its
modules makes it an attribute of `semia`. See `semia.export.exporter.export` for arguments and errors.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that is also a function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from semia.export.exporter import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
