"""What `semia evaluate` and `semia compare` share: their options, and judging generators on one scene's layouts."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from semia.cli.console import StepDisplay, say
from semia.cli.subjects import Subject, draw_and_time
from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import Canvas

if TYPE_CHECKING:
    from semia.evaluation.judge import Target
    from semia.training.evaluation_file import Evaluation, Figures
    from semia.training.scene import Scene

DEFAULT_WIDTH = 280

FIGURE_HEADINGS = ("align ↑", "swd ↓", "coherence ↓", "complete ↓", "sharp ↓", "seams ↓")
"""The arrows say which way is better."""

TargetsOption = Annotated[
    Path | None, typer.Option("--targets", help="Folder of label maps; by default the scene's own cond/.")
]
SceneOption = Annotated[
    Path | None,
    typer.Option(
        "--scene",
        metavar="SCENE",
        help="Scene folder with the photograph to judge against. A model needs one, for it holds no photograph; for a "
        "run it is by default the photograph it was made of, which --resize may have made smaller.",
    ),
]
WidthOption = Annotated[
    int,
    typer.Option(
        "--width",
        min=1,
        help="Pixels of width at which pictures are judged. Figures of different widths do not compare; seams takes 16 "
        "times as long at twice the width.",
    ),
]


class Judged(NamedTuple):
    """One generator's pictures and what they are worth."""

    subject: Subject
    pictures: Mapping[str, RGB]  # by target name
    milliseconds: float  # median of drawing one
    evaluation: "Evaluation"


@dataclass(frozen=True)
class Assessment:
    """The layouts that generators of one scene draw, and what their pictures are judged against."""

    scene: "Scene"
    layouts: "Sequence[Target]"
    width: int  # pixels

    @classmethod
    def prepare(
        cls, subjects: Sequence[Subject], scene_folder: Path | None, targets: Path | None, width: int
    ) -> "Assessment":
        """Read everything before anything long begins.

        Raises:
            InputError: if a folder or file is missing or does not fit the generators.
        """
        from semia.evaluation.judge import load_judged_scene, read_targets, target_folder

        first = subjects[0]
        folder = scene_folder or next((subject.scene for subject in subjects if subject.scene is not None), None)
        if folder is None:
            raise InputError(f"{first.path} holds no photograph to judge against: name its scene folder with --scene")
        scene = load_judged_scene(folder, first.palette, first.canvas)
        return cls(scene, read_targets(targets or target_folder(folder), first.palette, first.canvas), width)

    def judge(self, subjects: Sequence[Subject]) -> list[Judged]:
        """Have every generator draw every layout, and judge the pictures.

        Raises:
            EvaluationError: if the width leaves too few pixels to measure anything.
        """
        from semia.evaluation.judge import Judge

        canvas, count = subjects[0].canvas, len(self.layouts)
        judge = Judge.of_scene(self.scene, canvas, self.width)
        say(
            f"judging {len(subjects) * count} pictures of {canvas} at {judge.size} "
            f"against the photograph ({self.scene.canvas})"
        )
        judged: list[Judged] = []
        with StepDisplay("judging", len(subjects) * count) as display:
            for subject in subjects:
                pictures, milliseconds = draw_and_time(subject, self.layouts)
                figures: dict[str, Figures] = {}
                for layout in self.layouts:
                    figures[layout.name] = judge.judge(pictures[layout.name], layout)
                    display.update(len(judged) * count + len(figures), f"{subject.name} {layout.name}")
                judged.append(Judged(subject, pictures, milliseconds, _evaluation(subject, judge.size, figures)))
        return judged

    def label_pictures(self) -> dict[str, RGB]:
        """The layouts in the palette's colours, by name, on the generators' canvas."""
        return {layout.name: self.scene.palette.render(layout.on_canvas) for layout in self.layouts}


def _evaluation(subject: Subject, size: Canvas, figures: "Mapping[str, Figures]") -> "Evaluation":
    from semia.evaluation.judge import deciding_versions
    from semia.training.evaluation_file import Evaluation

    return Evaluation(
        name=subject.name,
        generator_sha256=subject.generator_sha256,
        size=size,
        targets=figures,
        versions=deciding_versions(),
        evaluated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def row_of(figures: "Figures", places: int = 3) -> list[str]:
    """The figures as a table shows them, in their order; a dash where nothing could be measured."""
    values = (figures.align, figures.swd, figures.coherence, figures.complete, figures.sharp, figures.seams)
    thousandths = max(1, places - 2)
    digits = (places, thousandths, places, places, places, thousandths)
    return ["-" if value is None else f"{value:.{count}f}" for value, count in zip(values, digits, strict=True)]


def note_of(figures: "Figures") -> str:
    """The figures as two short lines above a picture."""
    names = ("align", "swd", "coh", "com", "sharp", "seams")
    parts = [f"{name} {value}" for name, value in zip(names, row_of(figures, places=2), strict=True)]
    return " ".join(parts[:3]) + "\n" + " ".join(parts[3:])
