"""A run that ends after some minutes, on a clock that the test moves."""

import dataclasses
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from semia.training import loop as train_module
from semia.training.base import WorkProgress
from semia.training.loop import train
from semia.training.published.generator import Generator
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings

CPU = torch.device("cpu")
PREPARATION_S, ITERATION_S, CHECKPOINT_S = 3.0, 10.0, 1.0


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class ClockedTrainer:
    """Learns nothing, in a known time."""

    def __init__(self, clock: Clock, settings: TrainingSettings) -> None:
        self._clock = clock
        self._settings = settings
        self.shares: list[float] = []
        clock.now += PREPARATION_S

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        self._clock.now += ITERATION_S
        self.shares.append(progress)
        return {"loss": 0.0}

    def state_dict(self) -> dict[str, Any]:
        return {"shares": self.shares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shares = state["shares"]

    def finished_generator(self) -> Generator:
        self._clock.now += CHECKPOINT_S
        return Generator.from_settings(self._settings)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(train_module, "time", types.SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(train_module, "AlternatingTrainer", lambda _, settings, *__: ClockedTrainer(clock, settings))
    return clock


@pytest.fixture
def begin(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> Callable[[float], RunFolder]:
    def create(minutes: float) -> RunFolder:
        return RunFolder.create(tmp_path / "run", scene, dataclasses.replace(settings, minutes=minutes), seed=0)

    return create


def shares(run: RunFolder) -> list[float]:
    checkpoint = run.load_checkpoint(CPU)
    assert checkpoint is not None
    return list(checkpoint.trainer["shares"])


def test_it_ends_when_its_time_is_up(clock: Clock, begin: Callable[[float], RunFolder]) -> None:
    run = begin(1)
    news: list[WorkProgress] = []
    assert train(run, CPU, on_progress=news.append)
    # Preparation counts: 3 seconds are gone before the first iteration; then 10 each, a checkpoint after 30.
    assert [entry.seconds for entry in news] == [13, 23, 33, 44, 54, 64]
    assert shares(run) == pytest.approx([3 / 60, 13 / 60, 23 / 60, 34 / 60, 44 / 60, 54 / 60])
    assert (run.iterations_done, run.seconds_done, run.finished) == (6, 64.0, True)
    assert train(run, CPU)  # there is nothing left to do
    assert run.iterations_done == 6


def test_a_pause_costs_nothing(clock: Clock, begin: Callable[[float], RunFolder]) -> None:
    run = begin(1)
    answers: Iterator[bool] = iter([False, True])
    assert not train(run, CPU, should_stop=lambda: next(answers))
    assert (run.iterations_done, run.seconds_done, run.finished) == (2, 23.0, False)
    clock.now += 1e6
    # Preparing once more does cost: 26 seconds are gone when it goes on.
    assert train(RunFolder.open(run.path), CPU)
    assert shares(run) == pytest.approx([3 / 60, 13 / 60, 26 / 60, 36 / 60, 46 / 60, 57 / 60])
    assert run.iterations_done == 6


def test_what_a_kill_destroyed_costs_nothing(clock: Clock, begin: Callable[[float], RunFolder]) -> None:
    run = begin(1)

    def die(news: WorkProgress) -> None:
        if news.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, CPU, on_progress=die, checkpoint_interval_s=0)
    assert (run.iterations_done, run.seconds_done) == (1, 13.0)
    assert train(run, CPU)
    assert shares(run)[:2] == pytest.approx([3 / 60, 16 / 60])


def test_it_learns_something_even_if_preparing_takes_all_its_time(
    clock: Clock, begin: Callable[[float], RunFolder]
) -> None:
    run = begin(0.01)
    assert train(run, CPU)
    assert (run.iterations_done, shares(run)) == (1, [1.0])
