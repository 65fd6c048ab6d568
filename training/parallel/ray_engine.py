"""Jobs as tasks on a Ray cluster, or on a Ray of this machine alone.

Scene and run folders are on storage that all nodes see under the same paths: training is watched while it goes on
and resumed wherever there is room, which copies could not be. Every task checks that before it does anything.
"""

import contextlib
import dataclasses
import ipaddress
import logging
import tempfile
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semia.core.machine import usable_cores
from semia.core.staging import temporary_directory
from semia.training.errors import TrainingError, writing
from semia.training.parallel.jobs import LOCAL, LOCAL_ENVIRONMENT, Job, JobStatus, State, run_job

POLL_S = 0.5  # how long to wait for a status at a time

OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray that we start: only statuses pass through it; by default it would take a third of the memory."""


class RayEngine(contextlib.AbstractContextManager["RayEngine"]):
    """Starts Ray tasks of `run_job`, each in a process of its own.

    They are not retried: what a killed one learnt is in its run folder, and resuming goes on from there.
    """

    def __init__(self, address: str, *, cpus: int, device: str) -> None:
        """Connect, or start a Ray; a task takes a GPU where a request's ``device`` allows it and the cluster has any.

        The address is ``auto`` for the cluster that this machine is a node of, ``host:port`` of its head, or `LOCAL`.

        Raises:
            TrainingError: if there is no such cluster, or no GPU where one is asked for.
        """
        self._cleanup = contextlib.ExitStack()
        try:
            self._connect(address)
        except Exception as error:  # Ray has no common error for this: ConnectionError, RuntimeError, ValueError
            raise TrainingError(f"cannot reach Ray at {address}: {' '.join(str(error).split())}") from error
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        if device == "cuda" and not has_gpus:
            ray.shutdown()
            raise TrainingError(f"--device cuda: the Ray cluster at {address} has no GPU; use --device cpu or auto")
        self._needs = {"CPU": cpus, "GPU": int(has_gpus and device != "cpu")}
        self._task = ray.remote(
            num_cpus=cpus,
            num_gpus=self._needs["GPU"],
            max_retries=0,
            max_calls=1,  # a new process for each: nothing of one scene is left to the next
        )(_train_on_node)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor: Any = ray.remote(_StatusActor).options(num_cpus=0, scheduling_strategy=here).remote()
        self._jobs: dict[ray.ObjectRef[JobStatus], Job] = {}
        self._begun: set[str] = set()
        self._marker_of_folder: dict[Path, Path] = {}

    def __exit__(self, *exception: object) -> None:
        for task in self._jobs:
            ray.cancel(task, force=True)
        ray.shutdown()
        self._cleanup.close()

    @property
    def has_room(self) -> bool:
        """Whether any node is large enough for a task; without one, tasks wait until one joins the cluster."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return any(all(node.get(what, 0) >= count for what, count in self._needs.items()) for node in nodes)

    def start(self, job: Job) -> None:
        """Hand the job to Ray, which finds a node for it when there is room."""
        asked = job.request
        request = dataclasses.replace(  # tasks run in other folders than the one the paths are relative to
            asked,
            scene=asked.scene.absolute(),
            run=asked.run.absolute(),
            vgg_weights=asked.vgg_weights and asked.vgg_weights.absolute(),
        )
        job = dataclasses.replace(job, request=request)
        task = self._task.options(name=job.name).remote(job, self._actor, self._marker_beside(request.run))
        self._jobs[task] = job

    def stop(self) -> None:
        """Tell tasks that have begun to stop, and cancel the others."""
        self._actor.stop.remote()
        for task, job in self._jobs.items():
            if job.name not in self._begun:
                ray.cancel(task)

    def poll(self) -> list[JobStatus]:
        """The new statuses; a task whose process or node died has one that says so."""
        ended, _ = ray.wait(list(self._jobs), num_returns=1, timeout=POLL_S)
        statuses: list[JobStatus] = ray.get(self._actor.take.remote())
        self._begun |= {status.name for status in statuses}
        return statuses + [self._last_of(task) for task in ended]

    def _connect(self, address: str) -> None:
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address != LOCAL:
            ray.init(address, **quiet)
            return
        # Ray leaves its logs behind; not so where the folder is ours.
        ray.init(
            LOCAL,
            num_cpus=usable_cores(),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(self._cleanup.enter_context(temporary_directory("node"))),
            **quiet,
        )
        if not ipaddress.ip_address(node := ray.util.get_node_ip_address()).is_loopback:
            ray.shutdown()
            raise RuntimeError(f"it would listen on {node}: set {', '.join(LOCAL_ENVIRONMENT)} before ray is imported")

    def _last_of(self, task: "ray.ObjectRef[JobStatus]") -> JobStatus:
        name = self._jobs.pop(task).name
        try:
            return ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return JobStatus(name, State.INTERRUPTED, note="cancelled before it began")
        except ray.exceptions.RayTaskError as error:  # `run_job` raises nothing: semia itself is not what it is here
            cause = f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
            return JobStatus(name, State.FAILED, note=f"cannot run on its node: {cause}")
        except ray.exceptions.RayError as error:
            reason = f"its process died ({type(error).__name__}, out of memory?)"
            return JobStatus(name, State.FAILED, note=f"{reason}; the same command with --resume goes on")

    def _marker_beside(self, run: Path) -> Path:
        """A file that nodes which share the run folder's storage see."""
        folder = run.parent
        if folder not in self._marker_of_folder:
            with writing(f"write to {folder}"):
                folder.mkdir(parents=True, exist_ok=True)
                marker = tempfile.NamedTemporaryFile(dir=folder, prefix=".semia-shared-")  # noqa: SIM115  # closed by the stack
            self._cleanup.enter_context(marker)
            self._marker_of_folder[folder] = Path(marker.name)
        return self._marker_of_folder[folder]


class _StatusActor:
    """The actor through which tasks report and their caller stops them."""

    def __init__(self) -> None:
        self._statuses: list[JobStatus] = []
        self._stopping = False

    def update(self, status: JobStatus) -> bool:
        """Take a status; the answer says whether to stop."""
        self._statuses.append(status)
        return self._stopping

    def take(self) -> list[JobStatus]:
        """All statuses since the last time."""
        statuses, self._statuses = self._statuses, []
        return statuses

    def stop(self) -> None:
        self._stopping = True


def _train_on_node(job: Job, actor: Any, marker: Path) -> JobStatus:
    """The task."""
    node = ray.util.get_node_ip_address()
    if not job.request.scene.is_dir():
        missing = f"no scene folder at {job.request.scene}: is it there, and"
    elif not marker.exists():
        missing = f"another {marker.parent} than the caller: are the runs"
    else:
        missing = None
    if missing:
        note = f"node {node} sees {missing} on storage that all nodes share under one path?"
        return JobStatus(job.name, State.FAILED, note=note)
    sender = _StatusSender(actor)
    return run_job(job, sender.update, sender.should_stop)


class _StatusSender:
    """Sends a task's statuses to the actor: the answer to the last says whether to stop."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._answers: list[ray.ObjectRef[bool]] = []

    def update(self, status: JobStatus) -> None:
        self._answers.append(self._actor.update.remote(status))

    def should_stop(self) -> bool:
        if not self._answers:
            return False
        answered, self._answers = ray.wait(self._answers, num_returns=len(self._answers), timeout=0)
        try:
            return any(ray.get(answered))
        except ray.exceptions.RayActorError:
            return True  # the caller is gone
