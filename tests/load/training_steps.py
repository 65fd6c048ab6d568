"""How long a training iteration and its parts take: ``python -m tests.load.training_steps SCENE``."""

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semia.core.errors import SemiaError
from semia.core.machine import cpu_name
from semia.training.errors import SettingsError
from semia.training.loop import device_from_name
from semia.training.machine import has_fast_bfloat16, prepare_process
from semia.training.published.generator import Translation
from semia.training.published.pretrained import patch_features_from
from semia.training.published.trainer import AlternatingTrainer
from semia.training.scene import load_scene
from semia.training.settings import PRESETS, TrainingSettings
from semia.training.tensors import SceneTensors

PUBLISHED = {name: settings for name, settings in PRESETS.items() if isinstance(settings, TrainingSettings)}
"""The presets whose iteration has the parts timed here."""

PEAK_SIDE = 2048  # the machine's peak is that of a product of square matrices of this side


@dataclass(frozen=True)
class Part:
    """One part of a generator step: forward and backward, best of the repeats."""

    name: str
    seconds: float
    gflop: float  # of its convolutions and matrix products, two per multiply-add


@dataclass(frozen=True)
class Report:
    """What a benchmark found."""

    machine: str
    threads: int
    torch_version: str
    canvas: str  # what the networks see, padding included
    precision: str  # of convolutions
    peak_gflops: float  # of a large matrix product in that precision
    sampling_s: list[float]  # every repeat
    reconstruction_s: list[float]
    sampling_gflop: float  # of one sampling iteration
    forward_s: list[float]  # the generator's forward pass in float32 without gradients: what machines compare by
    parts: list[Part]

    @property
    def step_s(self) -> float:
        """One generator step: the sum of its parts."""
        return sum(part.seconds for part in self.parts)

    @property
    def sampling_passes(self) -> float:
        """A sampling iteration in forward passes."""
        return statistics.median(self.sampling_s) / statistics.median(self.forward_s)

    @property
    def coherence_share(self) -> float:
        """Patch coherence's share of a generator step."""
        return next(part.seconds for part in self.parts if part.name == "patch coherence") / self.step_s

    def to_json(self) -> str:
        """Everything as indented JSON."""
        derived = {name: getattr(self, name) for name in ("step_s", "sampling_passes", "coherence_share")}
        return json.dumps(dataclasses.asdict(self) | derived, indent=2)


def measure(trainer: AlternatingTrainer, repeats: int) -> Report:
    """Train for a few iterations, and time the parts of a generator step on what they leave.

    Call `prepare_process` first, as training does.
    """
    device = trainer.scene.image.device
    every = trainer.settings.reconstruction_every
    with FlopCounterMode(display=False) as flops:
        trainer.iterate(1, 0.0)  # warms up, too
    sampling, reconstruction = [
        [
            _seconds(functools.partial(trainer.iterate, every * repeat + offset, 0.0), device)
            for repeat in range(repeats)
        ]
        for offset in (1, 0)
    ]
    mixed = trainer.settings.mixed_precision and has_fast_bfloat16(device)
    height, width = trainer.scene.image.shape[2:]
    return Report(
        machine=torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        canvas=f"{width}x{height}",
        precision="bfloat16" if mixed else "float32",
        peak_gflops=_peak(torch.bfloat16 if mixed else torch.float32, device),
        sampling_s=sampling,
        reconstruction_s=reconstruction,
        sampling_gflop=flops.get_total_flops() / 1e9,
        forward_s=[_seconds(functools.partial(_forward, trainer), device) for _ in range(1 + repeats)][1:],
        parts=[_part(name, run, repeats, device) for name, run in _generator_step(trainer).items()],
    )


def _forward(trainer: AlternatingTrainer) -> None:
    trainer.generator.eval()
    with torch.no_grad():
        trainer.generator(trainer.scene.image, trainer.scene.labels, trainer.scene.labels)
    trainer.generator.train()


def _generator_step(trainer: AlternatingTrainer) -> dict[str, Callable[[], object]]:
    """The parts of a sampling iteration's generator step, each forward and backward, apart from each other."""
    generator, view, levels = trainer.generator, trainer.photograph, trainer.generator.depth
    labels = torch.cat([view.labels, view.labels])
    with torch.no_grad(), trainer.autocast():
        halves = [level.chunk(2) for level in generator.label_encoder(labels)]
        sides = [half[0] for half in halves] + [half[1] for half in halves]
        translation = generator.translate(sides[:levels], sides[levels:])
        code = generator.image_encoder(view.image, translation)
        output = generator.decoder(code, translation)
    coefficients = [*translation.gammas, *translation.betas]
    coherence = trainer.coherence.to_source(view.image, view.class_ids, view.class_ids)

    def translate(*sides: Tensor) -> list[Tensor]:
        gammas, betas = generator.translate(list(sides[:levels]), list(sides[levels:]))
        return [*gammas, *betas]

    def encode(*coefficients: Tensor) -> list[Tensor]:
        return [generator.image_encoder(view.image, _translation(coefficients))]

    def decode(code: Tensor, *coefficients: Tensor) -> list[Tensor]:
        return [generator.decoder(code, _translation(coefficients))]

    def judge(image: Tensor) -> list[Tensor]:
        judgement = trainer.discriminator(image)
        return [*judgement.scores, *judgement.features]

    heads = [*generator.gamma_heads.parameters(), *generator.beta_heads.parameters()]
    return {
        "label encoder": _both_ways(
            trainer, lambda: generator.label_encoder(labels), [], generator.label_encoder.parameters()
        ),
        "translation heads": _both_ways(trainer, translate, sides, heads),
        "image encoder": _both_ways(trainer, encode, coefficients, generator.image_encoder.parameters()),
        "decoder": _both_ways(trainer, decode, [code, *coefficients], generator.decoder.parameters()),
        "discriminator": _both_ways(trainer, judge, [output], []),
        "segmentation": _both_ways(trainer, lambda image: [trainer.segmentation(image)], [output], []),
        "patch coherence": _both_ways(trainer, lambda image: [coherence(image)], [output], []),
        "optimizer": trainer.optimizers["generator"].step,
    }


def _translation(coefficients: tuple[Tensor, ...]) -> Translation:
    levels = len(coefficients) // 2
    return Translation(list(coefficients[:levels]), list(coefficients[levels:]))


def _both_ways(
    trainer: AlternatingTrainer,
    function: Callable[..., list[Tensor]],
    inputs: list[Tensor],
    parameters: Iterable[nn.Parameter],
) -> Callable[[], object]:
    """A function's forward pass, and the backward pass to some inputs and parameters."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    wanted = [*leaves, *parameters]

    def run() -> None:
        with trainer.autocast():
            outputs = function(*leaves)
        for each in wanted:
            each.grad = None
        torch.autograd.backward(outputs, [torch.ones_like(each) for each in outputs], inputs=wanted)

    return run


def _part(name: str, run: Callable[[], object], repeats: int, device: torch.device) -> Part:
    with FlopCounterMode(display=False) as flops:
        run()  # warms up, too
    return Part(name, min(_seconds(run, device) for _ in range(repeats)), flops.get_total_flops() / 1e9)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _peak(dtype: torch.dtype, device: torch.device) -> float:
    matrix = torch.rand(PEAK_SIDE, PEAK_SIDE, device=device).to(dtype)
    best = min(_seconds(lambda: matrix @ matrix, device) for _ in range(5))
    return 2 * PEAK_SIDE**3 / best / 1e9


def tables(report: Report) -> list[Table]:
    """A report for people: iterations, then the parts of a generator step."""
    title = f"{report.machine}, {report.threads} threads, torch {report.torch_version}"
    headings = ("median s", "fastest s", "GFLOP", "GFLOP/s")
    whole = Table("iteration", *_right(headings), title=f"{title}; canvas {report.canvas}, {report.precision}")
    speed = f"{report.sampling_gflop / min(report.sampling_s):.0f} of {report.peak_gflops:.0f}"
    for name, seconds, *rest in (
        ("sampling", report.sampling_s, f"{report.sampling_gflop:.0f}", speed),
        ("reconstruction", report.reconstruction_s, "", ""),
        ("a forward pass, float32", report.forward_s, "", ""),
    ):
        whole.add_row(name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}", *rest)
    whole.caption = f"a sampling iteration takes as long as {report.sampling_passes:.0f} forward passes"

    headings = ("ms", "share", "GFLOP", "GFLOP/s")
    step = Table("part, both ways", *_right(headings), title=f"a generator step: {report.step_s * 1000:.0f} ms")
    for part in report.parts:
        share = f"{part.seconds / report.step_s:.1%}"
        speed = f"{part.gflop / part.seconds:.0f}" if part.gflop else ""
        step.add_row(part.name, f"{part.seconds * 1000:.0f}", share, f"{part.gflop:.1f}", speed)
    return [whole, step]


def _right(headings: Iterable[str]) -> Iterator[Column]:
    return (Column(heading, justify="right") for heading in headings)


def main(
    scene: Annotated[Path, typer.Argument(help="Scene folder: the photograph and its label map.")],
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PUBLISHED)}.")] = "paper",
    resize: Annotated[float | None, typer.Option(help="Scale the scene by this factor.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    vgg_weights: Annotated[Path | None, typer.Option(help="VGG19 state dict for patch coherence.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each thing is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Time a training iteration and its parts on this machine; nothing is written."""
    console = Console()
    try:
        if preset not in PUBLISHED:
            raise SettingsError(f"--preset must be one of {', '.join(PUBLISHED)}, not {preset!r}")
        settings, where = PUBLISHED[preset], device_from_name(device)
        features, _ = patch_features_from(vgg_weights, where)
        loaded = load_scene(scene, resize=resize, max_side=settings.max_side)
    except SemiaError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}")
        raise typer.Exit(2) from None
    prepare_process()
    tensors = SceneTensors.from_scene(loaded, settings.multiple, where)
    report = measure(AlternatingTrainer(tensors, settings, 0, features), repeats)
    if as_json:
        console.print_json(report.to_json())
    else:
        console.print(*tables(report), sep="\n")


if __name__ == "__main__":
    typer.run(main)
