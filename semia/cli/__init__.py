"""The command ``semia``: every room's work, one sub-command each, rooms imported only when used."""

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from semia.cli import (
    bench,
    compare,
    doctor,
    evaluate,
    export,
    import_,
    models,
    publish,
    serve,
    studio,
    synthesize,
    train,
)
from semia.cli.console import LogFormat, accept_any_text, choose_format, end_like_ctrl_c, log_event, print_error, stdout
from semia.cli.options import explained
from semia.core import __version__
from semia.core.errors import SemiaError

PACKAGES_OF_EXTRA = {
    "training": ("torch", "safetensors", "tensorboard"),
    "evaluation": ("skimage", "sklearn"),
    "export": ("onnx", "onnxscript"),
    "serving": ("onnxruntime",),
    "client": ("tritonclient", "grpc", "google"),
    "bench": ("matplotlib",),
    "cluster": ("ray",),
    "studio": ("aiohttp",),
}
"""Which extra brings a package that an installation may lack."""

INTERRUPTED = 130  # what a shell expects of a program stopped by Ctrl-C

app = typer.Typer(
    help=(
        "Make a generator from one photograph and its label map, serve it with Triton, "
        "and turn new label maps into pictures over gRPC."
    ),
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(train.train, train.render, import_.import_, evaluate.evaluate, compare.compare, export.export),
    *(export.train_and_export, publish.publish, serve.serve, synthesize.synthesize, studio.studio, bench.bench),
    doctor.doctor,
):
    app.command(_command.__name__.strip("_").replace("_", "-"))(explained(_command))
app.add_typer(models.group, name="models")

_debug = False


def _show_version(asked: bool) -> None:
    if asked:
        stdout.print(f"semia {__version__}")
        raise typer.Exit


def _choose_log_format(log_format: LogFormat) -> LogFormat:
    choose_format(log_format)
    return log_format


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _log_format: Annotated[
        LogFormat,
        typer.Option(
            "--log-format",
            help="json: one JSON object an event on standard error, no progress bars; standard output keeps results.",
            # Eager, so that what is wrong with the rest of the command line is told in the format as well.
            callback=_choose_log_format,
            is_eager=True,
        ),
    ] = LogFormat.TEXT,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug
    log_event("command_started", command=context.invoked_subcommand, version=__version__)


def main() -> None:
    """Run the command; errors become one line and an exit status: 2 for bad input, 1 for a failure."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines about what we report in one of ours
    end_like_ctrl_c()
    accept_any_text()
    # Pillow's words about large pictures; ours name the file.
    warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")
    began = time.monotonic()
    status = _run(sys.argv[1:] or ["--help"])
    log_event("command_finished", exit_status=status, duration_s=time.monotonic() - began)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    """The command's exit status; whatever went wrong has been said."""
    try:
        Path.cwd()
    except FileNotFoundError:
        print_error("the current folder has been deleted: change to another", exit_status=2)
        return 2
    try:
        return app(arguments, standalone_mode=False) or 0
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 1
    except TyperException as error:
        print_error(f"{error.format_message()} (see `semia --help`)", exit_status=error.exit_code)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):  # the latter from a question
        print_error("interrupted", "interrupted", exit_status=INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has ended; Python would report it once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if _debug:
            raise
        status = error.exit_code if isinstance(error, SemiaError) else 1
        print_error(_explain(error), type=type(error).__name__, exit_status=status)
        return status


def _explain(error: Exception) -> str:
    if isinstance(error, SemiaError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        for extra, packages in PACKAGES_OF_EXTRA.items():
            if package in packages:
                return f"this command needs {package}: pip install 'semia[{extra}]'"
    return f"unexpected {type(error).__name__}: {error} (run `semia --debug ...` for the traceback)"
