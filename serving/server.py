"""The Triton process: found, started, watched until it is ready, and stopped with all its helpers."""

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

from semia.errors import InputError
from serving.control import ModelState, model_states
from serving.embedded import TritonCommand, locate_embedded_triton
from serving.errors import (
    PortTakenError,
    RepositoryError,
    ServerError,
    ServerStartError,
    ServerUnreachableError,
    TritonNotFoundError,
)
from serving.repository import RepositoryModel, list_models
from serving.triton_log import last_error

if TYPE_CHECKING:
    from serving.front_thread import FrontThread

LAUNCHER = Path(__file__).with_name("launcher.py")

POLL_S = 0.05
"""Between two looks at a starting server."""

EXIT_TIMEOUT_S = 10
"""How long requests in flight may delay a stopping server."""

KILL_AFTER_S = EXIT_TIMEOUT_S + 10.0
"""When a server that was told to stop is killed: unloading takes a few seconds of its own."""

GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a usable NVIDIA driver leaves in /dev: on Linux, and on Windows' Linux."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not for our files: Triton and its stubs talk through it

SOCKET_PORT = 1
"""Triton writes every gRPC address with a port behind it, a socket's path too, where the number means nothing."""

MAX_SOCKET_PATH = 107
"""Bytes, of which Linux keeps 108 with the one that ends the path."""

Binary = Literal["auto", "embedded", "system"]
"""Which Triton to run: the wheel's, the ``tritonserver`` on PATH, or the first of these two that is there."""


@dataclass(frozen=True)
class ServerOptions:
    """How the server is run. The addresses have no encryption and no passwords: think before leaving loopback."""

    host: str = "127.0.0.1"  # IPv4 address, or name of one, that all three ports listen on
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    binary: Binary = "auto"
    timeout_s: float = 120.0  # from starting the process to every model being warm
    log_verbose: bool = False  # Triton logs every request
    max_loaded: int | None = None  # models in memory, loaded when called; None: all, loaded at the start

    def __post_init__(self) -> None:
        for service, port in self.ports.items():
            if not 1 <= port <= 65535:
                raise InputError(f"{service} port must be 1 to 65535, not {port}")
        if len(set(self.ports.values())) < len(self.ports):
            raise InputError(f"gRPC, HTTP and metrics need three different ports, not {[*self.ports.values()]}")
        if self.binary not in get_args(Binary):
            raise InputError(f"binary must be one of {', '.join(get_args(Binary))}, not {self.binary!r}")
        if self.timeout_s <= 0:
            raise InputError(f"timeout_s must be positive, not {self.timeout_s}")
        if self.max_loaded is not None and self.max_loaded < 1:
            raise InputError(f"max_loaded must be at least 1, not {self.max_loaded}")

    @classmethod
    def on_free_ports(cls) -> Self:
        """Options with three loopback ports that nobody listens on now."""
        with contextlib.ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in range(3)]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            grpc_port, http_port, metrics_port = (probe.getsockname()[1] for probe in probes)
        return cls(grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the name of their service."""
        return {"gRPC": self.grpc_port, "HTTP": self.http_port, "metrics": self.metrics_port}

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """What is listened on, by the name of the service."""
        silent = () if self.max_loaded is None else ("HTTP",)  # the front does not speak it
        return {service: (self.host, port) for service, port in self.ports.items() if service not in silent}


DEFAULT_OPTIONS = ServerOptions()


def find_triton(binary: Binary, runtime: Path, repository: Path) -> TritonCommand:
    """Find a Triton and prepare it to serve a repository.

    Args:
        binary: which one; "auto" prefers the embedded one, whose version we know.
        runtime: empty folder for what the embedded one needs; it must stay while the server runs.
        repository: the model repository.

    Raises:
        TritonNotFoundError: if there is none; it says what to install.
    """
    problem = "no tritonserver on PATH: run inside the Triton container, or use the embedded one"
    if binary != "system":
        try:
            return locate_embedded_triton().assemble(runtime, repository)
        except TritonNotFoundError as error:
            if binary == "embedded":
                raise
            problem = f"{error}; nor is there a tritonserver on PATH"
    program = shutil.which("tritonserver")
    if program is None:
        raise TritonNotFoundError(problem)
    return TritonCommand(Path(program), (f"--model-repository={repository}",), dict(os.environ))


class TritonServer:
    """A Triton process that serves a model repository; use it in a ``with`` statement.

    ``start`` returns when every model has been loaded and warmed up, or has failed to. As long as one
    serves, the server runs, and the broken ones are in `failed_models`. Triton's log is a file,
    `log_path`, kept when the server failed and removed with the server otherwise.

    With ``max_loaded``, nothing is loaded at the start: `models` are those that the repository has, a front
    (`serving.front`) listens in Triton's place, and Triton itself on a socket in its runtime folder alone. HTTP,
    which the front does not speak, is then off.

    The server stops when this process dies, however it dies. Linux ties that to the thread that called
    ``start``: call it from one that lives as long as the server should, such as the main thread.
    """

    def __init__(self, repository: Path, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self.repository = repository.absolute()
        self.options = options
        self.models: dict[str, int] = {}  # version served, by the model's name
        self.failed_models: dict[str, str] = {}  # why it is not served, by the model's name
        self._process: subprocess.Popen[bytes] | None = None
        self._runtime: Path | None = None
        self._front: FrontThread | None = None

    @property
    def grpc_url(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.options.host}:{self.options.grpc_port}"

    @property
    def _socket(self) -> Path | None:
        """Where Triton listens if a front stands before it: a socket that only this user can reach."""
        assert self._runtime is not None, "the socket exists from start to stop"
        path = self._runtime / f"grpc:{SOCKET_PORT}"
        if self.options.max_loaded is not None and len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise InputError(f"{path} is too long for a socket: set TMPDIR to a shorter path")
        return None if self.options.max_loaded is None else path

    @property
    def log_path(self) -> Path:
        """Triton's log."""
        assert self._runtime is not None, "the log exists from start to stop"
        return self._runtime / "triton.log"

    @property
    def pid(self) -> int:
        """The process id of Triton."""
        assert self._process is not None, "start the server first"
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start Triton and wait until it is ready.

        Raises:
            RepositoryError: if there is no model to serve.
            PortTakenError: if another program listens on one of the ports.
            TritonNotFoundError: if there is no Triton to start.
            ServerStartError: if Triton ends, loads no model, or is not ready in time; it names the cause.
        """
        assert self._process is None, "the server is running"
        listed = list_models(self.repository)
        if not listed:
            raise RepositoryError(f"nothing is published in {self.repository}: run `semia publish` first")
        check_ports(self.options)
        deadline = time.monotonic() + self.options.timeout_s
        self._runtime = Path(tempfile.mkdtemp(prefix="semia-triton-"))
        try:
            self._spawn(find_triton(self.options.binary, self._runtime, self.repository))
            self._await_models(deadline, listed)
            # Triton does not even list a folder whose configuration it cannot read.
            for model in listed:
                if model.name not in self.models:
                    self.failed_models.setdefault(model.name, model.problem or "Triton does not list it")
            if self.options.max_loaded is not None:
                self._start_front(self.options.max_loaded)
        except ServerStartError:
            self._end_process()
            raise  # its message names the log
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let requests in flight finish, then end Triton and its helpers; does nothing if it has ended."""
        failed = self._process is not None and self._process.poll() is not None
        if self._front is not None:
            self._front.stop()
            self._front = None
        self._end_process()
        if self._runtime is not None and not failed:
            shutil.rmtree(self._runtime, ignore_errors=True)
        self._runtime = None

    def wait(self) -> int:
        """Block until Triton ends, and return its exit code (negative: the signal that ended it).

        Raises:
            ServerError: if it ended because its front had failed.
        """
        assert self._process is not None, "start the server first"
        code = self._process.wait()
        if self._front is not None and self._front.failure is not None:
            raise ServerError(f"the gRPC front failed: {self._front.failure}")
        return code

    def _spawn(self, triton: TritonCommand) -> None:
        command = [
            # -I -S: the launcher needs the standard library alone, and starts faster without the rest.
            *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())),
            *(str(triton.program), *triton.arguments, *_server_arguments(self.options, self._socket)),
        ]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=triton.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own process group: Ctrl-C reaches this process alone, which then stops Triton in order,
                # and a kill reaches Triton's stubs too.
                start_new_session=True,
            )

    def _await_models(self, deadline: float, listed: list[RepositoryModel]) -> None:
        """Wait until Triton answers, which it does once it is done with loading, and note what it serves."""
        states: dict[str, ModelState] | None = None
        while states is None:
            self._check_alive()
            if time.monotonic() > deadline:
                raise self._start_error(f"Triton is not ready after {self.options.timeout_s:g} s")
            time.sleep(POLL_S)
            # A refused connection would make gRPC pause ever longer: knock first.
            if _is_listening(self._socket or (self.options.host, self.options.grpc_port)):
                with contextlib.suppress(ServerUnreachableError):
                    states = model_states(self._triton_url)
        self._check_alive()  # or it was another program that answered
        if self.options.max_loaded is not None:
            states = {
                model.name: ModelState(model.versions[-1] if model.problem is None else None, model.problem)
                for model in listed
                if model.name in states
            }
        self.models = {name: state.version for name, state in states.items() if state.version is not None}
        self.failed_models = {name: state.problem for name, state in states.items() if state.problem is not None}
        if not self.models:
            reasons = "; ".join(f"{name}: {problem}" for name, problem in self.failed_models.items())
            raise ServerStartError(f"Triton can serve no model of {self.repository}: {reasons} (log: {self.log_path})")

    def _start_front(self, max_loaded: int) -> None:
        from serving.front_thread import FrontThread  # asyncio, which the others have no use for

        process = self._process
        assert process is not None, "the front stands before a running Triton"
        front = FrontThread(
            self.repository, self._triton_url, self.grpc_url, max_loaded, on_failure=lambda: process.terminate()
        )
        front.start()
        self._front = front

    @property
    def _triton_url(self) -> str:
        """Triton's own gRPC address."""
        return self.grpc_url if self._socket is None else f"unix:{self._socket}"

    def _check_alive(self) -> None:
        assert self._process is not None, "only a started server is waited for"
        code = self._process.poll()
        if code is not None:
            ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise self._start_error(f"Triton {ending}")

    def _start_error(self, what: str) -> ServerStartError:
        cause = last_error(self.log_path.read_text(encoding="utf-8", errors="replace")) or "it logged nothing"
        return ServerStartError(f"{what}: {cause} (log: {self.log_path})")

    def _end_process(self) -> None:
        process, self._process = self._process, None
        self.models, self.failed_models = {}, {}
        if process is None:
            return
        process.terminate()
        try:
            process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert self._runtime is not None, "a process has a runtime folder"
        for region in SHARED_MEMORY.glob(f"{self._runtime.name}-*"):
            region.unlink(missing_ok=True)  # left where Triton and its stubs were killed at once


def check_ports(options: ServerOptions) -> None:
    """Make sure that nothing listens on the ports yet; Triton's own complaint would name only the first.

    Raises:
        PortTakenError: if something does.
        InputError: if this machine has no such address.
    """
    for service, (host, port) in options.addresses.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server just stopped leaves it
            try:
                probe.bind((host, port))
            except PermissionError:
                raise InputError(f"{service} port {port} is reserved for root: choose one above 1023") from None
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTakenError(
                        f"{service} port {port} is taken on {host}: stop what listens there, "
                        f"or choose another with --{service.lower()}-port"
                    ) from None
                raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _is_listening(address: tuple[str, int] | Path) -> bool:
    try:
        if isinstance(address, Path):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(address))
        else:
            socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def _server_arguments(options: ServerOptions, grpc_socket: Path | None) -> list[str]:
    arguments = {
        # Everything is loaded at the start; newly published versions when `serving.load_model` says so.
        "model-control-mode": "explicit",
        "load-model": "*",
        # One broken model must not take the others down.
        "exit-on-error": "false",
        "exit-timeout-secs": str(EXIT_TIMEOUT_S),
        "grpc-address": options.host,
        "grpc-port": str(options.grpc_port),
        "http-address": options.host,
        "http-port": str(options.http_port),
        "metrics-address": options.host,
        "metrics-port": str(options.metrics_port),
        "allow-gpu-metrics": str(any(device.exists() for device in GPU_DEVICES)).lower(),
        "log-verbose": str(int(options.log_verbose)),
    }
    if grpc_socket is not None:
        del arguments["load-model"], arguments["http-address"], arguments["http-port"]
        arguments |= {
            "grpc-address": f"unix:{grpc_socket.with_name('grpc')}",
            "grpc-port": str(SOCKET_PORT),
            "allow-http": "false",  # it would lead past the front
            "strict-readiness": "false",  # the server is ready although models were unloaded
        }
    return [f"--{name}={value}" for name, value in arguments.items()]
