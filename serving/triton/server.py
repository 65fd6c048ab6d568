"""The Triton process: found, started, watched until it is ready, and stopped with all its helpers."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from semia.core.access import ADMIN_KEY_NAME, ServerAccess, read_admin_key
from semia.core.errors import InputError
from semia.core.launcher import bound_to_this_process
from semia.core.staging import keep, remove_abandoned, temporary_directory
from semia.serving.errors import (
    RepositoryError,
    ServerError,
    ServerStartError,
    ServerUnreachableError,
    TritonNotFoundError,
)
from semia.serving.repository.layout import RepositoryModel, list_models
from semia.serving.repository.transaction import recover
from semia.serving.triton.control import ModelState, model_states
from semia.serving.triton.embedded import TritonCommand, locate_embedded_triton
from semia.serving.triton.options import (
    DEFAULT_OPTIONS,
    EXIT_TIMEOUT_S,
    Binary,
    PreparedTls,
    ServerOptions,
    check_ports,
    flags,
    join_address,
    prepare_tls,
    server_arguments,
)
from semia.serving.triton.watchdog import Watchdog

if TYPE_CHECKING:
    from semia.serving.proxy.forwarding import ProxyThread

KIND = "server"  # of the temporary directories in which servers run
POLL_S = 0.05  # between two looks at a starting server

KILL_AFTER_S = EXIT_TIMEOUT_S + 10.0
"""When a server that was told to stop is killed: unloading takes a few seconds of its own."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not for our files: Triton and its stubs talk through it

ADMIN_PROTOCOLS = "model-repository,shared-memory,trace,logging"
"""What changes the server, and so needs the admin key where there is one. Callers need to read the others."""

SOCKET_PORT = 1
"""Triton writes every gRPC address with a port behind it, a socket's path too, where the number means nothing."""

MAX_SOCKET_PATH = 107  # bytes, of which Linux keeps 108 with the one that ends the path


def find_triton(binary: Binary, runtime: Path, repository: Path) -> TritonCommand:
    """Find a Triton and prepare it to serve a repository; "auto" prefers the embedded one, whose version we know.

    ``runtime`` is an empty folder for what the embedded one needs; it must stay while the server runs.

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

    Example::

        with semia.TritonServer("model_repository", semia.ServerOptions(grpc_port=8001)) as server:
            print(server.grpc_url, server.models)

    ``start`` returns when every model has been loaded and warmed up, or has failed to. As long as one
    serves, the server runs, and the broken ones are in `failed_models`. Triton's log is a file,
    `log_path`, kept when the server failed and removed with the server otherwise.

    With ``max_loaded``, nothing is loaded at the start: `models` are those that the repository has, a proxy
    (`semia.serving.proxy`) listens in Triton's place, and Triton itself on a socket in its runtime folder alone.

    A model whose process dies is loaded anew (`semia.serving.triton.watchdog`).

    The server stops when this process dies, however it dies. Linux ties that to the thread that called
    ``start``: call it from one that lives as long as the server should, such as the main thread.
    """

    def __init__(self, repository: str | os.PathLike[str], options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self.repository = Path(repository).absolute()
        self.options = options
        self.models: dict[str, int] = {}  # version served, by the model's name
        self.failed_models: dict[str, str] = {}  # why it is not served, by the model's name
        self._process: subprocess.Popen[bytes] | None = None
        self._runtime: Path | None = None
        self._temporary = contextlib.ExitStack()  # removes it
        self.access = ServerAccess()  # opens the running server to this process, whatever it asks others for
        self._tls: PreparedTls | None = None
        # Where Triton itself listens, and what opens it: the server's, or a socket behind the proxy, without TLS.
        self._socket: Path | None = None
        self._triton_url, self._triton_access = self.grpc_url, self.access
        self._proxy: ProxyThread | None = None
        self._watchdog: Watchdog | None = None

    @property
    def grpc_url(self) -> str:
        """HOST:PORT for clients."""
        return join_address(self.options.host, self.options.grpc_port)

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

    def __exit__(self, *exception: object) -> None:
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
        if self.repository.is_dir():
            with contextlib.suppress(OSError, RepositoryError):  # a repository we cannot write is others' to mend
                recover(self.repository)
        listed = list_models(self.repository)
        if not listed:
            raise RepositoryError(f"nothing is published in {self.repository}: run `semia publish` first")
        check_ports(self.options)
        deadline = time.monotonic() + self.options.timeout_s
        for killed in remove_abandoned(Path(tempfile.gettempdir()), f"semia-{KIND}-"):
            _remove_regions(killed)
        try:
            self._spawn(self._prepare())
            self._await_models(deadline, listed)
            # Triton does not even list a folder whose configuration it cannot read.
            for model in listed:
                if model.name not in self.models:
                    self.failed_models.setdefault(model.name, model.problem or "Triton does not list it")
            if self.options.max_loaded is not None:
                self._start_proxy(self.options.max_loaded)
            self._watchdog = Watchdog(self.pid, self.grpc_url, self.repository, self.access)
            self._watchdog.start()
        except ServerStartError:
            self._end_process()
            keep(self.log_path.parent, self.log_path)  # the message names it
            self._temporary.close()
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let requests in flight finish, then end Triton and its helpers; does nothing if it has ended."""
        failed = self._process is not None and self._process.poll() is not None
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()
        if self._proxy is not None:
            self._proxy.stop()
            self._proxy = None
        self._end_process()
        if watchdog is not None:
            watchdog.join()
        if self._runtime is not None and failed:
            keep(self._runtime, self.log_path)
        self._temporary.close()
        self._runtime = None

    def wait(self) -> int:
        """Block until Triton ends, and return its exit code (negative: the signal that ended it).

        Raises:
            ServerError: if it ended because its proxy had failed.
        """
        assert self._process is not None, "start the server first"
        code = self._process.wait()
        if self._proxy is not None and self._proxy.failure is not None:
            raise ServerError(f"the gRPC proxy failed: {self._proxy.failure}")
        return code

    def _prepare(self) -> TritonCommand:
        """Find Triton, and lay out in a temporary folder what it needs."""
        options = self.options
        try:
            runtime = self._runtime = self._temporary.enter_context(temporary_directory(KIND))
            self._tls = None if options.tls is None else prepare_tls(options.tls, runtime)
            admin_key = None if options.admin_key_file is None else read_admin_key(options.admin_key_file)
            self.access = ServerAccess(None if self._tls is None else self._tls.control, admin_key)
            self._triton_url, self._triton_access = self.grpc_url, self.access
            if options.max_loaded is not None:
                self._socket = runtime / f"grpc:{SOCKET_PORT}"  # which only this user can reach
                if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH:
                    raise InputError(f"{self._socket} is too long for a socket: set TMPDIR to a shorter path")
                self._triton_url, self._triton_access = f"unix:{self._socket}", ServerAccess(admin_key=admin_key)
            return find_triton(options.binary, runtime, self.repository)
        except OSError as error:
            raise ServerError(
                f"cannot prepare a server in the temporary folder: {error}; set TMPDIR to another"
            ) from error

    def _spawn(self, triton: TritonCommand) -> None:
        command = [str(triton.program), *triton.arguments, *flags(self._arguments())]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                bound_to_this_process(command),
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
            # A refused connection would make gRPC pause ever longer: try a bare one first.
            if _is_listening(self._socket or (self.options.host, self.options.grpc_port)):
                with contextlib.suppress(ServerUnreachableError):
                    states = model_states(self._triton_url, access=self._triton_access)
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

    def _start_proxy(self, max_loaded: int) -> None:
        from semia.serving.proxy.forwarding import ProxyThread  # asyncio, which the others have no use for

        process = self._process
        assert process is not None, "the proxy stands before a running Triton"
        proxy = ProxyThread(
            self.repository,
            self._triton_url,
            self.grpc_url,
            max_loaded,
            credentials=None if self._tls is None else self._tls.credentials(),
            control_metadata=tuple(self.access.headers.items()),
            on_failure=process.terminate,
        )
        proxy.start()
        self._proxy = proxy

    def _arguments(self) -> dict[str, str]:
        """Triton's, by name."""
        arguments = server_arguments(self.options)
        if self._socket is not None:
            arguments |= {
                "grpc-address": f"unix:{self._socket.with_name('grpc')}",
                "grpc-port": str(SOCKET_PORT),
                "strict-readiness": "false",  # the server is ready although models were unloaded
            }
        elif self._tls is not None:
            arguments |= self._tls.arguments
        if self.access.admin_key is not None:
            restriction = f"{ADMIN_PROTOCOLS}:{ADMIN_KEY_NAME}={self.access.admin_key}"
            http = {"http-restricted-api": restriction} if "HTTP" in self.options.addresses else {}
            arguments |= {"grpc-restricted-protocol": restriction, **http}
        return arguments

    def _check_alive(self) -> None:
        assert self._process is not None, "only a started server is waited for"
        code = self._process.poll()
        if code is not None:
            ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise self._start_error(f"Triton {ending}")

    def _start_error(self, what: str) -> ServerStartError:
        cause = last_error(self.log_path.read_text(encoding="utf-8", errors="replace")) or "it logged no error"
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
        _remove_regions(self._runtime.name)


def _remove_regions(runtime: str) -> None:
    """Remove the shared memory that Triton and its stubs leave where all of them were killed at once."""
    for region in SHARED_MEMORY.glob(f"{runtime}-*"):
        with contextlib.suppress(OSError):  # another user's
            region.unlink(missing_ok=True)


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


LOG_LINE = re.compile(r'[IWEF]\d{4} \S+ \d+ \S+\] (?:"(?P<quoted>.*)"|(?P<plain>.*))')
"""``E1122 08:05:06.092130 5251 server.cc:241] "message"``; a message of several lines has one quote here."""

FOREIGN_ERROR = re.compile(r"error|terminate called|what\(\)", re.IGNORECASE)
"""How the dynamic loader, the option parser and the C++ runtime complain, whose lines are not Triton's."""

HARMLESS = ("CudaDriverHelper has not been initialized", "failed to load all models")
"""Errors that every start without a GPU logs, and one that only sums up others."""


def last_error(log: str) -> str | None:
    """The message of the last line that reports an error, or None if there is none."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith(("+", "|"))]
    errors = [
        line
        for line in lines
        if (line[0] in "EF" if LOG_LINE.match(line) else FOREIGN_ERROR.search(line))
        and not any(text in line for text in HARMLESS)
    ]
    if not errors:
        return None
    match = LOG_LINE.match(errors[-1])
    return errors[-1] if match is None else (match["quoted"] or match["plain"] or "").strip('"').split("\\n")[0]
