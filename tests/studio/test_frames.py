"""Frames: whatever bytes arrive, they are a frame or a `FrameError`."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semia.core.labels import Canvas
from semia.studio.errors import FrameError
from semia.studio.frames import pack, unpack

# Training in this process makes it flush subnormal numbers to zero.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_subnormal=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), json_values), st.binary())
def test_what_is_packed_is_unpacked(head: dict[str, object], body: bytes) -> None:
    frame = unpack(pack(head, body))
    assert (frame.head, frame.body) == (head, body)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_in_words(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert max(unpack(data).label_map(64).shape) <= 64


@given(st.integers(0, 2**32 - 1), st.binary(max_size=40))
def test_wrong_lengths_are_refused(length: int, rest: bytes) -> None:
    data = struct.pack("<I", length) + rest
    if length > len(rest):
        with pytest.raises(FrameError):
            unpack(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["width", "height", "sequence"]), json_values), st.binary(max_size=64))
def test_heads_that_make_no_sense_are_refused(head: dict[str, object], body: bytes) -> None:
    try:
        ids = unpack(pack(head, body)).class_ids(Canvas(4, 8), 3)
    except FrameError:
        return
    assert ids.shape == (4, 8)
    assert ids.max() < 3


def test_class_ids_come_back_as_they_were() -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = unpack(pack({"width": 4, "height": 3}, ids.tobytes()))
    assert np.array_equal(frame.class_ids(Canvas(3, 4), 12), ids)
    with pytest.raises(FrameError, match="class id 11, but there are 11"):
        frame.class_ids(Canvas(3, 4), 11)
    with pytest.raises(FrameError, match="4x3, the canvas 3x4"):
        frame.class_ids(Canvas(4, 3), 12)
