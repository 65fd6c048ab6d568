"""Contact sheets: pictures side by side with captions, for people who would rather look than read."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semia.core.images import RGB

BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)
GAP = 8  # pixels between tiles
CAPTION_HEIGHT = 22  # pixels above each tile for a caption of one line
LINE_HEIGHT = 18  # pixels for each further line
MAX_LINES = 4  # of a caption: longer ones are cut
MAX_COLUMNS = 40  # of a sheet of pairs: with as many, its width is still one that every picture format can hold


class Tile(NamedTuple):
    """One picture of a sheet."""

    caption: str  # may have several lines
    picture: RGB  # uint8[H, W, 3]


def contact_sheet(tiles: Sequence[Tile], columns: int, tile_width: int = 320) -> RGB:
    """Lay tiles out row by row, each scaled to ``tile_width`` pixels; returns ``uint8[H, W, 3]``."""
    font = ImageFont.load_default(size=14)
    captions = [_wrap(tile.caption, font, tile_width) for tile in tiles]
    scaled = [_scale(tile.picture, tile_width) for tile in tiles]
    tile_height = max(image.height for image in scaled)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    further_lines = max(0, *(len(lines) - 1 for lines in captions))
    caption_height = CAPTION_HEIGHT + further_lines * LINE_HEIGHT
    cell_width, cell_height = tile_width + GAP, tile_height + caption_height + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (lines, image) in enumerate(zip(captions, scaled, strict=True)):
        left = GAP + index % columns * cell_width
        top = GAP + index // columns * cell_height
        for line, text in enumerate(lines, start=1 + further_lines - len(lines)):  # the last stands above the picture
            draw.text((left, top + 2 + line * LINE_HEIGHT), text, fill=INK, font=font)
        sheet.paste(image, (left, top + caption_height))
    return np.asarray(sheet)


def result_sheet(
    photograph: Tile,
    photograph_labels: Tile,
    targets: Mapping[str, RGB],
    results: Mapping[str, RGB],
    notes: Mapping[str, str] | None = None,
) -> RGB:
    """The photograph and every target's labels in one row, the labels of the one and results of the others below.

    ``targets`` and ``results`` are pictures by target name; only targets with a result are shown. ``notes``, by
    target name too, stand above the results.
    """
    above = [photograph, *(Tile(name, targets[name]) for name in results)]
    captions = notes or {}
    below = [photograph_labels, *(Tile(captions.get(name, ""), picture) for name, picture in results.items())]
    return pairs_sheet(above, below)


def pairs_sheet(above: Sequence[Tile], below: Sequence[Tile]) -> RGB:
    """Each of some tiles above its counterpart, in rows of at most `MAX_COLUMNS` pairs."""
    columns = min(len(above), MAX_COLUMNS)
    blank = Tile("", np.full_like(above[0].picture, 255))
    tiles: list[Tile] = []
    for first in range(0, len(above), columns):
        for row in (above[first : first + columns], below[first : first + columns]):
            tiles += [*row, *[blank] * (columns - len(row))]
    return contact_sheet(tiles, columns)


def _scale(picture: RGB, width: int) -> Image.Image:
    image = Image.fromarray(picture)
    if image.width == width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _wrap(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A caption's lines, broken where they would run into their neighbor; names of files have no better places."""
    lines: list[str] = []
    for line in caption.split("\n"):
        lines.append("")
        for character in line:
            if font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    if len(lines) <= MAX_LINES:
        return lines
    return [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1][:-2] + "…"]
