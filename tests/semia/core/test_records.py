"""Dataclasses as JSON and back: every type that files have, and what is wrong with others."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import pytest

from semia.core.labels import Canvas
from semia.core.records import from_json, to_json


class Kind(enum.StrEnum):
    FAST = "fast"


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    canvas: Canvas
    folder: PurePosixPath
    kind: Kind | None
    level: Literal["low", "high"]
    ratio: float
    exact: bool
    figures: Mapping[str, float | None]
    note: str | None = None
    extra: dict[str, int] = field(default_factory=dict)


WHOLE = Whole(
    [Part("a", (1, 2)), Part("b", ())],
    Canvas(3, 4),
    PurePosixPath("/tmp/x"),  # noqa: S108 - nothing is there
    Kind.FAST,
    "low",
    1,
    True,
    {"p": 0.5, "q": None},
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert from_json(Whole, to_json(WHOLE)) == WHOLE
    assert to_json(WHOLE).endswith("}\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name": "a"', '"name": 5', r"Whole\.parts\[0\]\.name cannot be 5"),
        ('"level": "low"', '"level": "middle"', r"Whole\.level cannot be 'middle'"),
        ('"kind": "fast"', '"kind": "slow"', "'slow' is not a valid Kind"),
        ('"ratio": 1', '"ratio": true', r"Whole\.ratio cannot be True"),
        ('"exact": true', '"exact": 1', r"Whole\.exact cannot be 1"),
        ('"p": 0.5', '"p": "0.5"', r"Whole\.figures\.p cannot be '0\.5'"),
        ('"note": null', '"remark": null', "Whole has no remark"),
        ('"ratio": 1,', "", "Whole lacks ratio"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    text = to_json(WHOLE)
    assert old in text
    with pytest.raises(ValueError, match=message):
        from_json(Whole, text.replace(old, new))


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{"])
def test_what_is_no_record_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(Whole, text)
