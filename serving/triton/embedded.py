"""The Triton that comes out of the package index: the binary inside the wheel ``nvidia-pytriton``.

Only the wheel's files are used, never its Python package. Its ``tritonserver`` has one backend, Python's,
which starts a *stub*, a small program with an interpreter inside, for every model instance. Beside it we
put our own ``onnxruntime`` backend, written in Python. What the pieces need is laid out in a runtime
folder and the environment:

- Triton refuses a backend library whose real path is elsewhere, so that one is copied; links do for the rest.
- The stub is linked against ``libpython3.X.so.1.0``; a folder with a link to that alone goes on
  ``LD_LIBRARY_PATH``, so that nothing else of Python's library folder can get in Triton's way.
- Triton starts the stub through a shell and quotes nothing: a path with a space would make it wait forever.
  Such a repository is served through a link.
- The stub ignores ``PYTHONPATH`` and ``PYTHONHOME``; it takes its standard library and its
  site-packages from the ``python3`` it finds on ``PATH``.
"""

import importlib.metadata
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from semia.serving.errors import TritonNotFoundError

WHEEL = "nvidia-pytriton"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ONNXRUNTIME_BACKEND = Path(__file__).parents[1] / "backends" / "onnxruntime" / "model.py"

MALLOC_ARENAS = "1"
"""Heaps that malloc divides Triton's threads among, unless told otherwise. Every load of a model starts threads, and
with glibc's own bound, eight for each core, what they freed stayed in ever more heaps: Triton went on growing. With
one, calls were as fast as with more: next to none of a picture's time goes into allocating."""


@dataclass(frozen=True)
class TritonCommand:
    """How to start one Triton."""

    program: Path  # the tritonserver binary
    arguments: tuple[str, ...]  # the repository, and what this Triton needs besides the options of every server
    environment: dict[str, str]  # all variables of the process


@dataclass(frozen=True)
class EmbeddedTriton:
    """The files of the embedded Triton on this machine."""

    binary: Path  # tritonserver
    python_backend: Path  # folder of libtriton_python.so and triton_python_backend_utils.py
    stub: Path  # triton_python_backend_stub for the running Python's version
    libpython: Path  # libpython3.X.so.1.0 of the running Python
    python: Path  # the running Python, called python3, in its environment

    def assemble(self, runtime: Path, repository: Path) -> TritonCommand:
        """Lay out the backends in ``runtime``, empty or not there yet, and say how to serve ``repository`` with them.

        Raises:
            TritonNotFoundError: if a shell would not take the runtime folder's path for one word, or programs are not
                allowed in it.
            OSError: if there is no room.
        """
        if not _is_one_word(runtime):
            raise TritonNotFoundError(f"the embedded Triton cannot work in {runtime}: set TMPDIR to a plain path")
        runtime.mkdir(parents=True, exist_ok=True)
        if os.statvfs(runtime).f_flag & os.ST_NOEXEC:
            raise TritonNotFoundError(
                f"the embedded Triton cannot work in {runtime.parent}, where no program may run (it is mounted "
                "noexec): set TMPDIR to another folder"
            )
        python_backend, onnxruntime_backend, libraries = (
            runtime / folder for folder in ("backends/python", "backends/onnxruntime", "lib")
        )
        for folder in (python_backend, onnxruntime_backend, libraries):
            folder.mkdir(parents=True)
        shutil.copyfile(self.python_backend / "libtriton_python.so", python_backend / "libtriton_python.so")
        for target, folder in (
            (self.python_backend / "triton_python_backend_utils.py", python_backend),
            (self.stub, python_backend),
            (ONNXRUNTIME_BACKEND, onnxruntime_backend),
            (self.libpython, libraries),
        ):
            (folder / target.name).symlink_to(target)
        if not _is_one_word(repository):
            (runtime / "models").symlink_to(repository)
            repository = runtime / "models"
        return TritonCommand(
            self.binary,
            (
                f"--model-repository={repository}",
                f"--backend-directory={runtime / 'backends'}",
                # A published configuration is complete: completing it would start every model's stub twice.
                "--disable-auto-complete-config",
                # So that what a killed Triton leaves in shared memory can be told from other servers' regions.
                f"--backend-config=python,shm-region-prefix-name={runtime.name}-",
            ),
            {"MALLOC_ARENA_MAX": MALLOC_ARENAS}
            | os.environ
            | {
                "LD_LIBRARY_PATH": _path_list(libraries, "LD_LIBRARY_PATH"),
                # A shell without one, as of `env -i`, has a path of its own that its children do not see.
                "PATH": _path_list(self.python.parent, "PATH", os.defpath),
            },
        )


def locate_embedded_triton() -> EmbeddedTriton:
    """Find the embedded Triton's files for the running Python, importing nothing of the wheel.

    Raises:
        TritonNotFoundError: if the wheel, its stub for this Python, or libpython is missing.
    """
    triton = find_wheel_folder()
    return EmbeddedTriton(
        binary=triton / "bin" / "tritonserver",
        python_backend=triton / "backends" / "python",
        stub=find_stub(triton / "python_backend_stubs"),
        libpython=find_libpython(_library_folders()),
        python=find_python(Path(sys.executable)),
    )


def find_wheel_folder(wheel: str = WHEEL) -> Path:
    """The folder of the installed wheel that holds Triton's files, or a TritonNotFoundError."""
    try:
        distribution = importlib.metadata.distribution(wheel)
    except importlib.metadata.PackageNotFoundError:
        raise TritonNotFoundError(
            f"the embedded Triton is not installed: pip install 'semia[serving]' "
            f"(its wheel, {wheel}, exists for Linux on x86-64)"
        ) from None
    return Path(str(distribution.locate_file("pytriton/tritonserver")))


def find_stub(stubs: Path, version: str = PYTHON_VERSION) -> Path:
    """The stub for a Python version, or a TritonNotFoundError that says which versions the wheel has one for."""
    stub = stubs / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = sorted((path.name for path in stubs.glob("3.*")), key=lambda name: int(name.split(".")[1]))
        raise TritonNotFoundError(
            f"the embedded Triton does not know Python {version}: use one of {', '.join(known) or 'none'}"
        )
    return stub


def find_libpython(folders: Iterable[Path], version: str = PYTHON_VERSION) -> Path:
    """The shared library of a Python version, or a TritonNotFoundError that names its Debian package."""
    name = f"libpython{version}.so.1.0"
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise TritonNotFoundError(
        f"the embedded Triton needs {name}, which this Python does not have: apt-get install libpython{version}, "
        "or use a Python built with --enable-shared"
    )


def find_python(executable: Path) -> Path:
    """The ``python3`` beside the running interpreter, as Triton's stub calls it, or a TritonNotFoundError."""
    python = executable.parent / "python3"
    if not python.exists() or python.resolve() != executable.resolve():
        raise TritonNotFoundError(
            f"the embedded Triton needs {executable} to be called python3, and {python} is not it: "
            "run semia from a virtual environment"
        )
    return python


def _library_folders() -> list[Path]:
    """Where the running Python's shared library may be: where it was built to be, or where Debian puts it."""
    folder, architecture = (str(sysconfig.get_config_var(key) or "") for key in ("LIBDIR", "MULTIARCH"))
    return [Path(folder), Path(folder, architecture), Path(sys.base_prefix, "lib"), Path("/usr/lib", architecture)]


def _is_one_word(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)


def _path_list(first: Path, variable: str, default: str = "") -> str:
    """A search path with one more folder in front of what the environment has."""
    rest = os.environ.get(variable, default)
    return f"{first}{os.pathsep}{rest}" if rest else str(first)
