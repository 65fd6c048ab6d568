import json
from pathlib import Path

import numpy as np
import pytest

from semia.core.images import read_rgb
from semia.training.errors import TrainingError
from semia.training.loop import RunLog, training_seconds
from semia.training.run_folder import METRICS_FILE
from tests.conftest import SmallDisk


def test_losses_and_sheets_are_kept(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        log.record(0, {"adversarial": 0.5}, 1.25)
        path = log.sheet(1, np.full((8, 16, 3), 200, dtype=np.uint8))
    line = json.loads((tmp_path / METRICS_FILE).read_text())
    assert line == {"iteration": 0, "seconds": 1.25, "adversarial": 0.5}
    assert read_rgb(path).shape == (8, 16, 3)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_full_disk_is_said_and_closing_says_nothing_else(small_disk: SmallDisk) -> None:
    with RunLog(small_disk.path, 0) as log:
        small_disk.leave(0)

        def record() -> None:
            for iteration in range(1000):  # what is left of the file's last page is filled first
                log.record(iteration, {"adversarial": 0.5}, 1.25)

        with pytest.raises(TrainingError, match=r"cannot record losses in .*No space left on device; --resume goes on"):
            record()
        with pytest.raises(TrainingError, match=r"cannot keep a sample sheet: .*No space left on device; --resume"):
            log.sheet(1, np.zeros((8, 16, 3), dtype=np.uint8))


def test_a_resumed_run_log_drops_what_will_be_done_again(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        for iteration in range(5):
            log.record(iteration, {"loss": iteration}, 1.0)
    # A kill can tear the line that was being written.
    with (tmp_path / METRICS_FILE).open("a") as metrics:
        metrics.write('{"iteration": 5, "lo')
    with RunLog(tmp_path, 3) as log:
        log.record(3, {"loss": 30}, 1.0)
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert [line["loss"] for line in lines] == [0, 1, 2, 30]


def test_the_time_of_a_run_is_that_of_its_iterations(tmp_path: Path) -> None:
    assert training_seconds(tmp_path) is None
    with RunLog(tmp_path, 0) as log:
        assert training_seconds(tmp_path) is None
        for iteration in range(3):
            log.record(iteration, {"loss": 1.0}, 1.5)
        assert training_seconds(tmp_path) == 4.5
