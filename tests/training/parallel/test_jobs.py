"""Many scenes side by side, for real, in processes on this machine."""

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from semia.core.errors import InputError
from semia.core.machine import usable_cores
from semia.training.parallel.jobs import JobStatus, LocalEngine, State, plan, run_job, run_jobs, threads_of_each
from semia.training.request import TrainRequest
from semia.training.run_folder import RunFolder

ENDLESS = 1_000_000


@pytest.fixture
def request_of(scene_folder: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(
        scene=scene_folder, run=tmp_path / "runs" / "good", name="good", preset="paper-short", iterations=1
    )


def prepared(request: TrainRequest, name: str) -> TrainRequest:
    return dataclasses.replace(request, name=name, run=request.run.parent / name, preset="default", iterations=None)


def another(request: TrainRequest, name: str, iterations: int = ENDLESS) -> TrainRequest:
    return dataclasses.replace(request, name=name, run=request.run.parent / name, iterations=iterations)


def test_a_failure_and_a_kill_do_not_stop_the_others(request_of: TrainRequest) -> None:
    missing = dataclasses.replace(another(request_of, "missing"), scene=Path("nowhere"))
    jobs = plan([request_of, missing, another(request_of, "killed")], threads=1)

    def kill(status: JobStatus) -> None:
        if status.name == "killed" and status.state is State.TRAINING:
            (child,) = (child for child in multiprocessing.active_children() if child.name == "killed")
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    ended = run_jobs(jobs, LocalEngine(), at_once=3, on_status=kill)
    assert (ended["good"].state, ended["good"].iteration) == (State.DONE, 1)
    assert RunFolder.open(request_of.run).finished
    assert (ended["missing"].state, ended["missing"].note) == (State.FAILED, "no scene folder at nowhere")
    assert ended["killed"].state is State.FAILED
    assert ended["killed"].note.startswith("its process was ended by SIGKILL")
    assert multiprocessing.active_children() == []


def test_a_stopped_fleet_keeps_what_it_learnt_and_begins_no_more(request_of: TrainRequest) -> None:
    seen: list[JobStatus] = []
    jobs = plan([another(request_of, "stopped"), another(request_of, "waiting")], threads=1)
    ended = run_jobs(
        jobs,
        LocalEngine(),
        at_once=1,
        on_status=seen.append,
        should_stop=lambda: any(status.iteration for status in seen),
    )
    assert [status.state for status in ended.values()] == [State.INTERRUPTED, State.INTERRUPTED]
    assert ended["waiting"].note == "not begun"
    run = RunFolder.open(jobs[0].request.run)
    assert run.iterations_done == ended["stopped"].iteration >= 1
    assert not jobs[1].request.run.exists()
    progress = next(status for status in seen if status.iteration)
    assert {"adversarial", "feature_matching"} <= progress.losses.keys(), "of every kind of iteration"
    assert progress.left_s is not None


def test_generators_are_prepared_side_by_side_and_those_done_are_left(request_of: TrainRequest) -> None:
    seen: list[JobStatus] = []
    missing = dataclasses.replace(prepared(request_of, "missing"), scene=Path("nowhere"))
    requests = [prepared(request_of, "one"), prepared(request_of, "two"), missing]
    ended = run_jobs(plan(requests, threads=1), LocalEngine(), at_once=2, on_status=seen.append)
    assert {name: status.state for name, status in ended.items()} == {
        "one": State.DONE, "two": State.DONE, "missing": State.FAILED
    }  # fmt: skip
    assert "variants" in {status.stage for status in seen if status.state is State.PREPARING}
    one, two = (RunFolder.open(request.run) for request in requests[:2])
    assert one.generator_sha256() == two.generator_sha256()
    assert ended["one"].seconds == one.preparation_s

    again = [dataclasses.replace(request, resume=True) for request in requests[:2]]
    ended = run_jobs(plan(again, threads=1), LocalEngine(), at_once=2, on_status=seen.append)
    assert {status.note for status in ended.values()} == {"was prepared already"}


def test_a_stopped_preparation_leaves_no_generator(request_of: TrainRequest) -> None:
    (job,) = plan([prepared(request_of, "stopped")], threads=1)
    told: list[JobStatus] = []
    last = run_job(job, told.append, lambda: any(status.stage for status in told))
    assert (last.state, last.seconds) == (State.INTERRUPTED, 0.0)
    assert not RunFolder.open(job.request.run).finished


def test_two_scenes_of_one_name_are_refused(request_of: TrainRequest) -> None:
    unnamed = dataclasses.replace(request_of, name=None)
    twin = dataclasses.replace(unnamed, scene=request_of.scene.parent / "other" / "tiny_scene")
    assert [job.name for job in plan([unnamed, twin], 1)] == ["tiny-scene", "tiny_scene"]
    twin = dataclasses.replace(unnamed, scene=request_of.scene.parent / "other" / "tiny scene")
    with pytest.raises(InputError, match="are both called 'tiny-scene'"):
        plan([unnamed, twin], 1)


def test_the_machine_is_divided_among_jobs() -> None:
    assert threads_of_each(1) == usable_cores()
    assert threads_of_each(1000) == 1
