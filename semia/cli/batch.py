"""A batch of label maps on its way to pictures: which are to be made, which are there, which failed."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from semia.cli.console import record
from semia.core.contact_sheet import Tile
from semia.core.errors import ImageError, LabelMapError
from semia.core.images import RGB, read_rgb, rgb_array, write_image
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.core.provenance import Provenance

if TYPE_CHECKING:
    from semia.client import ModelDescription, Outcome, SynthesisClient


class Batch:
    """Label maps and where their pictures go. A label map that cannot be used does not stop the others."""

    def __init__(
        self, model: str, paths: list[Path], outputs: list[Path], *, concurrency: int, resume: bool, keep_tiles: bool
    ) -> None:
        """A batch for a served model.

        Args:
            model: its name.
            paths: the label maps.
            outputs: the file of each one's picture.
            concurrency: the most calls in flight.
            resume: leave out pictures that the model's latest version has made of the same label map.
            keep_tiles: collect `tiles`, in memory.
        """
        self.failures: list[str] = []
        self.tiles: list[Tile] = []  # every label map and its picture, for a contact sheet
        self.written = 0
        self.skipped = 0
        self._model = model
        self._files = list(zip(paths, outputs, strict=True))
        self._concurrency = concurrency
        self._resume = resume
        self._keep_tiles = keep_tiles
        self._durations_s: list[float] = []

    def run(self, client: "SynthesisClient", on_progress: Callable[[int, str], None]) -> None:
        """Make the pictures that are not there; ``on_progress`` is told how many are done, and the last one's name.

        Raises:
            ClientError: if the server fails, and not a single label map.
        """
        described = client.describe(self._model)
        outputs = dict(self._files)
        pending = self._pending(client, described)
        with closing(client.synthesize_many(self._model, pending, concurrency=self._concurrency)) as outcomes:
            for outcome in outcomes:
                path = outcome.target
                assert isinstance(path, Path), "targets are paths here"
                self._take(outcome, path, outputs[path], described.palette)
                on_progress(self.written + self.skipped + len(self.failures), path.name)

    def summary(self, out: Path) -> str:
        """What is there now, in one phrase."""
        phrases = [f"{self.written} pictures in {out}"]
        if self._durations_s:
            latency_ms = 1000 * statistics.median(self._durations_s)
            phrases.append(f"median latency {latency_ms:.1f} ms with {self._concurrency} at once")
        if self.skipped:
            phrases.append(f"{self.skipped} were there")
        return "; ".join(phrases)

    def figures(self) -> dict[str, object]:
        """The same for a log."""
        median_s = statistics.median(self._durations_s) if self._durations_s else None
        return {"pictures": self.written, "skipped": self.skipped, "latency_s": median_s}

    def _pending(self, client: "SynthesisClient", described: "ModelDescription") -> Iterator[Path]:
        for path, output in self._files:
            if self._resume and (made_by := Provenance.read(output)) is not None:
                try:
                    ids = client.class_ids(self._model, path)
                except (ImageError, LabelMapError):
                    yield path  # fails once more, where failures are counted
                    continue
                version, card = described.latest_version, described.model_card_sha256
                if made_by == Provenance.of(self._model, version, card, ids):
                    self.skipped += 1
                    if self._keep_tiles:
                        self._add_tiles(path, ids, described.palette, read_rgb(output))
                    continue
            yield path

    def _take(self, outcome: "Outcome", path: Path, output: Path, palette: Palette) -> None:
        if isinstance(outcome.error, (ImageError, LabelMapError)):
            self.failures.append(str(outcome.error))
            record("target_refused", model=self._model, target=path, note=str(outcome.error))
            return
        picture, ids = outcome.unwrap(), outcome.class_ids
        assert ids is not None, "a picture is made of something"
        made_by = Provenance.of(self._model, outcome.version, outcome.model_card_sha256, ids)
        write_image(output, picture, made_by.text())
        self.written += 1
        self._durations_s.append(outcome.duration_s)
        record("picture_synthesized", model=self._model, target=path, path=output, latency_s=outcome.duration_s)
        if self._keep_tiles:
            self._add_tiles(path, ids, palette, rgb_array(picture))

    def _add_tiles(self, path: Path, ids: ClassIds, palette: Palette, picture: RGB) -> None:
        self.tiles += [Tile(path.stem, palette.render(ids)), Tile("", picture)]
