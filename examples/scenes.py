"""The second half of `make scenes`: small contact sheets beside the scenes, and their figures as a Markdown table."""

import json
from pathlib import Path

from PIL import Image

SCENES = Path(__file__).parent / "scenes"
RUNS = Path("demo/scenes")
FIGURES = {"align": 3, "swd": 1, "coherence": 3, "complete": 3, "sharp": 3, "seams": 1}
"""The six figures and their decimals."""

LARGEST_SHEET = (1400, 440)
"""Pixels: below 150 kB as a JPEG of this quality."""
QUALITY = 85


def main() -> None:
    """Write every sheet and print a row for every scene and target."""
    print("| scene | target | align ↑ | swd ↓ | coherence ↓ | complete ↓ | sharp ↓ | seams ↓ |")
    print("|---|---|---|---|---|---|---|---|")
    for run in sorted(path.parent for path in RUNS.glob("*/evaluation.json")):
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        for target, figures in {**evaluation["targets"], "**mean**": evaluation["mean"]}.items():
            cells = [f"{figures[name]:.{places}f}" for name, places in FIGURES.items()]
            print(f"| {run.name} | {target} | {' | '.join(cells)} |")
        with Image.open(run / "evaluation.png") as sheet:
            sheet.thumbnail(LARGEST_SHEET, Image.Resampling.LANCZOS)
            sheet.save(SCENES / run.name / "sheet.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
