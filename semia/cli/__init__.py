"""The command ``semia``: every room's work, one sub-command each, rooms imported only when used."""

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from semia import __version__
from semia.cli import (
    benching,
    comparison,
    evaluation,
    exporting,
    importing,
    models,
    publishing,
    serving,
    synthesis,
    training,
)
from semia.cli.console import complain, say
from semia.errors import SemiaError

EXTRA_OF_MODULE = {
    "torch": "training",
    "safetensors": "training",
    "tensorboard": "training",
    "skimage": "evaluation",
    "sklearn": "evaluation",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "serving",
    "tritonclient": "client",
    "grpc": "client",
    "google": "client",
    "matplotlib": "bench",
}
"""Which extra brings a package that an installation may lack."""

INTERRUPTED = 130
"""What a shell expects of a program stopped by Ctrl-C."""

app = typer.Typer(
    help=(
        "Train a generator from one photograph and its label map, serve it with Triton, "
        "and turn new label maps into pictures over gRPC."
    ),
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (training, importing, evaluation, comparison, exporting, publishing, serving, synthesis, models, benching):
    room.register(app)

_debug = False


def _show_version(asked: bool) -> None:
    if asked:
        say(f"semia {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug


def main() -> None:
    """Run the command; errors become one line and an exit status: 2 for bad input, 1 for a failure."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines about what we report in one of ours
    arguments = sys.argv[1:] or ["--help"]
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except TyperException as error:
        complain(f"{error.format_message()} (see `semia --help`)")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):  # the latter from a question
        complain("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if _debug:
            raise
        complain(_explain(error))
        sys.exit(error.exit_code if isinstance(error, SemiaError) else 1)


def _explain(error: Exception) -> str:
    if isinstance(error, SemiaError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRA_OF_MODULE.get(error.name.split(".")[0])
        if extra:
            return f"this command needs {error.name.split('.')[0]}: pip install 'semia[{extra}]'"
    return f"unexpected {type(error).__name__}: {error} (run `semia --debug ...` for the traceback)"
