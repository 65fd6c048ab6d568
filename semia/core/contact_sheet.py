"""Contact sheets: pictures side by side with captions, for people who would rather look than read."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semia.core.images import RGB

BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)
GAP = 8
"""Pixels between tiles."""
CAPTION_HEIGHT = 22
"""Pixels above each tile for a caption of one line."""
LINE_HEIGHT = 18
"""Pixels for each further line."""


class Tile(NamedTuple):
    """One picture of a sheet."""

    caption: str  # may have several lines
    picture: RGB  # uint8[H, W, 3]


def contact_sheet(tiles: Sequence[Tile], columns: int, tile_width: int = 320) -> RGB:
    """Lay tiles out row by row, each scaled to ``tile_width`` pixels; returns ``uint8[H, W, 3]``."""
    scaled = [_scale(tile.picture, tile_width) for tile in tiles]
    tile_height = max(image.height for image in scaled)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    further_lines = max(tile.caption.count("\n") for tile in tiles)
    caption_height = CAPTION_HEIGHT + further_lines * LINE_HEIGHT
    cell_width, cell_height = tile_width + GAP, tile_height + caption_height + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for index, (tile, image) in enumerate(zip(tiles, scaled, strict=True)):
        left = GAP + index % columns * cell_width
        top = GAP + index // columns * cell_height
        lines = tile.caption.split("\n")
        for line, text in enumerate(lines, start=1 + further_lines - len(lines)):  # the last stands above the picture
            draw.text((left, top + 2 + line * LINE_HEIGHT), _shorten(text, font, tile_width), fill=INK, font=font)
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
    return contact_sheet([*above, *below], columns=len(above))


def _scale(picture: RGB, width: int) -> Image.Image:
    image = Image.fromarray(picture)
    if image.width == width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _shorten(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut a caption that would run into its neighbour."""
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + "…") > width:
        caption = caption[:-1]
    return caption + "…"
