import numpy as np

from semia.core.contact_sheet import (
    CAPTION_HEIGHT,
    GAP,
    LINE_HEIGHT,
    MAX_COLUMNS,
    MAX_LINES,
    Tile,
    contact_sheet,
    pairs_sheet,
    result_sheet,
)
from semia.core.images import RGB


def flat(level: int, height: int = 30, width: int = 40) -> RGB:
    return np.full((height, width, 3), level, dtype=np.uint8)


def test_tiles_stand_in_rows_under_their_captions() -> None:
    sheet = contact_sheet([Tile("one", flat(10)), Tile("two", flat(20)), Tile("three", flat(30))], 2, tile_width=40)
    assert sheet.shape == (2 * (30 + CAPTION_HEIGHT + GAP) + GAP, 2 * (40 + GAP) + GAP, 3)
    top, left = GAP + CAPTION_HEIGHT, GAP
    assert (sheet[top : top + 30, left : left + 40] == 10).all()
    assert (sheet[top : top + 30, left + 40 + GAP : left + 80 + GAP] == 20).all()
    assert sheet[GAP : GAP + CAPTION_HEIGHT, left : left + 40].min() < 128  # the caption's ink


def test_pictures_of_other_sizes_are_scaled() -> None:
    sheet = contact_sheet([Tile("", flat(10, 60, 80)), Tile("", flat(20))], 1, tile_width=40)
    assert sheet.shape[1] == 40 + 2 * GAP


def test_a_long_caption_does_not_reach_its_neighbor() -> None:
    sheet = contact_sheet([Tile("m" * 100, flat(10)), Tile("", flat(20))], 2, tile_width=40)
    assert (sheet[:CAPTION_HEIGHT, 40 + GAP :] == 255).all()


def test_captions_of_several_lines_end_above_their_pictures() -> None:
    sheet = contact_sheet([Tile("one\ntwo", flat(10)), Tile("two", flat(20))], 2, tile_width=40)
    top = GAP + CAPTION_HEIGHT + LINE_HEIGHT
    assert sheet.shape[0] == top + 30 + GAP
    left, right = sheet[:, GAP : GAP + 40], sheet[:, 2 * GAP + 40 : 2 * GAP + 80]
    assert (left[top : top + 30] == 10).all()
    assert (right[top : top + 30] == 20).all()
    assert left[: top - CAPTION_HEIGHT].min() < 128
    assert (right[: top - CAPTION_HEIGHT] == 255).all()
    assert np.array_equal(left[top - CAPTION_HEIGHT + 4 : top], right[top - CAPTION_HEIGHT + 4 : top])


def test_only_targets_with_a_result_are_shown() -> None:
    photograph, labels = Tile("photograph", flat(1)), Tile("its labels", flat(2))
    one = result_sheet(photograph, labels, {"a": flat(3), "b": flat(4)}, {"a": flat(5)})
    two = result_sheet(photograph, labels, {"a": flat(3), "b": flat(4)}, {"a": flat(5), "b": flat(6)})
    assert two.shape[1] > one.shape[1]


def test_notes_stand_above_the_results() -> None:
    photograph, labels = Tile("photograph", flat(1)), Tile("its labels", flat(2))
    plain = result_sheet(photograph, labels, {"a": flat(3)}, {"a": flat(5)})
    noted = result_sheet(photograph, labels, {"a": flat(3)}, {"a": flat(5)}, notes={"a": "align 0.9"})
    middle = plain.shape[0] // 2
    assert np.array_equal(noted[:middle], plain[:middle])
    assert not np.array_equal(noted[middle : middle + CAPTION_HEIGHT], plain[middle : middle + CAPTION_HEIGHT])


def test_a_long_name_is_broken_into_lines() -> None:
    def sheet(caption: str) -> RGB:
        return contact_sheet([Tile(caption, flat(10))], 1, tile_width=80)

    assert sheet("long-name-of-a-target-1").shape[0] == sheet("short").shape[0] + LINE_HEIGHT
    assert not np.array_equal(sheet("long-name-of-a-target-1"), sheet("long-name-of-a-target-2"))
    assert sheet("x" * 1000).shape[0] == sheet("short").shape[0] + (MAX_LINES - 1) * LINE_HEIGHT


def test_hundreds_of_pairs_stand_in_rows_that_every_format_holds() -> None:
    labels = [Tile(f"target {index}", flat(index)) for index in range(100)]
    sheet = pairs_sheet(labels, [Tile("", flat(150 + index)) for index in range(100)])
    assert sheet.shape[1] == MAX_COLUMNS * (320 + GAP) + GAP < 16_383
    cell = 240 + CAPTION_HEIGHT + GAP
    assert sheet.shape[0] == 6 * cell + GAP
    last = sheet[
        4 * cell + GAP + CAPTION_HEIGHT :, 19 * (320 + GAP) + GAP :
    ]  # of 100 targets, the last is the 20th of the third row
    assert (last[:240, :320] == 99).all()
    assert (last[cell : cell + 240, :320] == 249).all()
    assert (last[:, 320 + GAP :] == 255).all()
