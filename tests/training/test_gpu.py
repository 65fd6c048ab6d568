"""Both generators on a CUDA device, beside the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from semia.training.base import Renderer
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.loop import train
from semia.training.published.generator import Generator
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_generator_prepared_on_a_gpu_is_the_one_prepared_on_the_cpu(tmp_path: Path, scene: Scene) -> None:
    files = []
    for device in (CPU, CUDA):
        run = RunFolder.create(tmp_path / device.type, scene, CopyingSettings())
        assert prepare_run(run, device)
        files.append(run.generator_sha256())
    assert files[0] == files[1]


def test_the_copying_generator_paints_the_same_pixels_on_a_gpu(tmp_path: Path, scene: Scene) -> None:
    run = RunFolder.create(tmp_path / "run", scene, CopyingSettings())
    assert prepare_run(run, CPU)
    renderers = [run.load_generator(device).renderer() for device in (CPU, CUDA)]
    for ids in (scene.labels, *scene.targets.values()):
        assert np.array_equal(renderers[0](ids), renderers[1](ids))


def test_the_published_generator_paints_nearly_the_same_on_a_gpu(scene: Scene, settings: TrainingSettings) -> None:
    torch.manual_seed(0)
    generator = Generator.from_settings(settings).eval()
    on_cpu, on_gpu = (SceneTensors.from_scene(scene, settings.multiple, device) for device in (CPU, CUDA))
    pictures = [Renderer(generator, on_cpu)(scene.labels)]
    pictures.append(Renderer(generator.to(CUDA), on_gpu)(scene.labels))
    difference = np.abs(pictures[0].astype(int) - pictures[1]).mean()
    assert difference < 2, "rounding to TF32 is all that may differ"


def test_a_run_trained_on_a_gpu_goes_on_on_the_cpu(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    iterations = 0

    def stop() -> bool:
        nonlocal iterations
        iterations += 1
        return iterations == 1

    assert not train(run, CUDA, should_stop=stop)
    assert train(run, CPU)
