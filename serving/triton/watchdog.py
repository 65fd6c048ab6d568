"""Noticing that a model's process has died, and having Triton start another one, which it does not do by itself.

The Python backend runs every instance of a model in a process of its own. When one is killed, as the kernel does
where memory runs out, Triton 2.51 goes on calling the model ready and answers its calls, each after a second, with
INTERNAL. Told to load the model, it finds that nothing has changed. So it is told with a configuration that has: it
then loads the model anew beside the dead process, and puts it in its place as it would a new version. There is no
moment in which the model is unknown, and a proxy (`semia.serving.proxy.forwarding`) sees a model that stays in memory.
"""

import datetime
import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.access import ServerAccess
from semia.core.machine import child_processes
from semia.serving.errors import ServerError
from semia.serving.repository.transaction import CONFIG_FILE
from semia.serving.triton.control import load_model, model_states

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""Between two looks at Triton's processes; one takes about a millisecond. A process that dies sooner after
its start is not noticed, but then the model is still being loaded, and that fails."""

RESTART_DELAY_S = 10.0
"""After a model was loaded anew, or could not be: one that dies of every call must not keep the others' cores busy."""

RESTARTED = "restarted_at"  # the parameter by which the configuration of a model that was loaded anew differs


@dataclass(frozen=True)
class _Instance:
    """What a process of the Python backend runs."""

    model: str
    version: int


class Watchdog(threading.Thread):
    """Watches the processes of one Triton, from `start` to `stop`; to be joined when Triton is gone."""

    def __init__(self, pid: int, url: str, repository: Path, access: ServerAccess) -> None:
        """Watch nothing yet; ``url`` is HOST:PORT of the Triton with this process id, or of its proxy."""
        super().__init__(name="semia-watchdog", daemon=True)
        self._pid = pid
        self._url = url
        self._repository = repository
        self._access = access
        self._living: dict[int, _Instance] = {}  # by process id
        self._due: dict[_Instance, float] = {}  # when what died is to be loaded anew
        self._restart_after: dict[str, float] = {}  # from when on it may be
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have it end; what dies from now on was meant to."""
        self._stopping.set()

    def run(self) -> None:
        """Watch; the work of the thread."""
        with ThreadPoolExecutor(1) as loader:  # a slow load must not keep it from looking
            while not self._stopping.wait(POLL_S):
                for dead in self._newly_dead():
                    self._due[dead] = max(time.monotonic(), self._restart_after.get(dead.model, 0.0))
                for dead in [dead for dead, due in list(self._due.items()) if due <= time.monotonic()]:
                    del self._due[dead]
                    loader.submit(self._reload, dead)

    def _newly_dead(self) -> list[_Instance]:
        """What was running at the last look, and did not end in order."""
        dead, living = [], {}
        for pid in child_processes(self._pid):
            state, exit_code = _state(pid)
            if state != "Z":
                instance = self._living.get(pid) or self._instance(pid)
                if instance is not None:
                    living[pid] = instance
            elif pid in self._living and exit_code != 0:  # Triton does not wait for processes that it did not end
                dead.append(self._living[pid])
                how = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exited with {exit_code}"
                logger.warning("the process of model %s %s", self._living[pid].model, how)
        self._living = living
        return dead

    def _instance(self, pid: int) -> _Instance | None:
        """What a child of Triton runs; None if it is no process of the Python backend, or not yet."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            model, version, *_ = Path(arguments[1]).relative_to(self._repository).parts
            return _Instance(model, int(version))
        except (OSError, ValueError, IndexError):
            return None

    def _reload(self, dead: _Instance) -> None:
        began = time.monotonic()
        try:
            state = model_states(self._url, access=self._access).get(dead.model)
            if state is None or state.version != dead.version:
                return  # it was on its way in, or out
            path = self._repository / dead.model / CONFIG_FILE
            config = text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
            config.parameters[RESTARTED].string_value = datetime.datetime.now(datetime.UTC).isoformat()
            as_json = json_format.MessageToJson(config, preserving_proto_field_name=True)
            load_model(self._url, dead.model, config=as_json, access=self._access)
            logger.warning("model %s has a process again, after %.2f s", dead.model, time.monotonic() - began)
        except (ServerError, OSError, ValueError, text_format.ParseError) as error:
            if not self._stopping.is_set():
                logger.warning("%s; trying again in %g s", error, RESTART_DELAY_S)
                self._due[dead] = time.monotonic() + RESTART_DELAY_S
        finally:
            self._restart_after[dead.model] = time.monotonic() + RESTART_DELAY_S


def _state(pid: int) -> tuple[str, int]:
    """The state letter of a process, and its exit code where that is Z; negative: the signal that ended it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], os.waitstatus_to_exitcode(int(fields[-1])) if fields[0] == "Z" else 0
