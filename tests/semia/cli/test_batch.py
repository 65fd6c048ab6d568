"""A folder of label maps to pictures: interrupted, resumed, and with bad ones among them."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferenceServerClient

from semia import serving
from semia.client import RetryOptions, ServerUnavailableError, SynthesisClient
from semia.client.batch import Provenance, synthesize_files
from semia.core.images import output_files, read_rgb
from semia.core.palette import Palette
from tests.client.test_connection import FakeTriton, running
from tests.command import ENVIRONMENT, complaint, semia

COUNT = 6


def write_map(path: Path, palette: Palette, size: tuple[int, int], seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, len(palette), size, dtype=np.uint8)
    Image.fromarray(palette.render(ids)).save(path)


@pytest.fixture
def maps(tmp_path: Path, tiny_palette: Palette) -> Path:
    folder = tmp_path / "maps"
    folder.mkdir()
    for index in range(COUNT):
        write_map(folder / f"{index}.png", tiny_palette, (48, 64), index)
    return folder


class Made(NamedTuple):
    """What came of a batch: how many pictures were made and were there."""

    written: int
    skipped: int


def make(url: str, maps: Path, out: Path, *, model: str = "tiny", resume: bool = True) -> Made:
    files = output_files(sorted(maps.iterdir()), out)
    with SynthesisClient(url, retries=RetryOptions(attempts=1)) as client:
        outcomes = list(synthesize_files(client, model, files, concurrency=3, resume=resume))
    assert {outcome.target: outcome.output for outcome in outcomes} == files
    assert all(outcome.error is None and outcome.class_ids is not None for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    return Made(len(outcomes) - skipped, skipped)


def test_what_is_there_is_left_and_what_is_not_right_is_made_again(
    triton: serving.TritonServer, maps: Path, tmp_path: Path, tiny_palette: Palette
) -> None:
    out = tmp_path / "out"
    assert make(triton.grpc_url, maps, out).written == COUNT
    made = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    write_map(maps / "0.png", tiny_palette, (48, 64), 100)  # another layout by the same name
    (out / "1.png").write_bytes((out / "1.png").read_bytes()[:-400])  # cut short
    Image.fromarray(read_rgb(out / "2.png")).save(out / "2.png")  # somebody else's, the same pixels or not
    (out / "3.png").unlink()
    assert make(triton.grpc_url, maps, out) == (4, 2)
    for path in sorted(maps.iterdir()):
        assert np.array_equal(read_rgb(out / path.name), read_rgb(path)), "the tiny model paints its classes' colors"
        assert (made[path.name] == (out / path.name).stat().st_mtime_ns) is (path.stem in "45")
    assert make(triton.grpc_url, maps, out, resume=False).written == COUNT, "without --resume, everything is made"


def test_another_version_makes_everything_again(
    triton: serving.TritonServer, maps: Path, tmp_path: Path, tiny_bundle: Path, make_bundle: Callable[..., Path]
) -> None:
    for expected in ((COUNT, 0), (0, COUNT)):
        if expected[0]:
            serving.publish(make_bundle(tmp_path / "bundle", name="again"), triton.repository)
            serving.load_model(triton.grpc_url, "again")
        assert make(triton.grpc_url, maps, tmp_path / "out", model="again") == expected
    serving.publish(tmp_path / "bundle", triton.repository)
    serving.load_model(triton.grpc_url, "again")
    assert make(triton.grpc_url, maps, tmp_path / "out", model="again").written == COUNT
    made_by = Provenance.read(tmp_path / "out" / "0.png")
    assert made_by is not None
    assert (made_by.model, made_by.version) == ("again", "2")
    with InferenceServerClient(triton.grpc_url) as bare:
        bare.unload_model("again")


def test_bad_maps_do_not_stop_the_others(
    triton: serving.TritonServer, maps: Path, tmp_path: Path, tiny_palette: Palette
) -> None:
    (maps / "0.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 48), (250, 250, 10)).save(maps / "3.png")
    command: list[str | Path] = ["synthesize", "tiny", maps, "--url", triton.grpc_url, "--out", tmp_path / "out"]
    assert "2 of 6 label maps failed; the first: cannot read" in complaint(semia(*command), 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png", "4.png", "5.png"]

    for seed in (0, 3):
        write_map(maps / f"{seed}.png", tiny_palette, (48, 64), seed)
    result = semia(*command, "--resume", "--concurrency", "2")
    assert result.returncode == 0, result.stderr
    assert "2 pictures in" in result.stdout
    assert "4 were there" in result.stdout


def test_ctrl_c_leaves_whole_pictures_and_resume_goes_on(tmp_path: Path) -> None:
    palette = Palette(((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    (tmp_path / "maps").mkdir()
    for index in range(20):
        write_map(tmp_path / "maps" / f"{index:02d}.png", palette, (4, 6), index)
    out = tmp_path / "out"
    with running(FakeTriton(delay_s=0.2)) as fake:
        arguments = ["synthesize", "fake", "maps", "--url", fake.url, "--out", "out", "--concurrency", "2"]
        command = [sys.executable, "-m", "semia", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=tmp_path) as process:
            deadline = time.monotonic() + 30
            while len([*out.glob("[0-9]*.png")]) < 3:
                assert time.monotonic() < deadline, "nothing was made"
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert "--resume goes on" in output
        made = [*out.iterdir()]
        assert 3 <= len(made) < 20
        assert all(Provenance.read(path) is not None for path in made), "whole ones, and nothing else"
        fake.delay_s = 0
        fake.requests.clear()
        result = semia(*arguments, "--resume", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"{len(made)} were there" in result.stdout
        assert fake.requests.count("infer") == 20 - len(made)
    assert len([*out.iterdir()]) == 20


def test_a_server_that_goes_away_stops_the_batch(maps: Path, tmp_path: Path) -> None:
    with running(FakeTriton()) as fake:
        pass
    with pytest.raises(ServerUnavailableError):
        make(fake.url, maps, tmp_path / "out", model="fake")


def test_provenance_is_of_one_map_and_one_export(tmp_path: Path) -> None:
    ids = np.zeros((2, 3), dtype=np.uint8)
    made_by = Provenance.of("tiny", "1", "0" * 64, ids)
    assert made_by != Provenance.of("tiny", "1", "0" * 64, ids.reshape(3, 2)), "the size counts"
    assert made_by != Provenance.of("tiny", "1", "0" * 64, ids + np.uint8(1))
    assert Provenance.read(tmp_path / "absent.png") is None
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    assert Provenance.read(tmp_path / "plain.png") is None
