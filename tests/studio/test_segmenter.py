"""Clicks become areas, whichever family the networks are of: what they are fed, and what is made of their answers."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from semia.core.errors import InputError
from semia.studio.segmenter import Click, Segmenter, clicks_from_json

HEIGHT, WIDTH = 60, 120
INSIDE = Click(90.0, 30.0, True)
OUTSIDE = Click(10.0, 30.0, False)


class Value(NamedTuple):
    name: str
    shape: list[int]


class Session:
    """A network that answers as it is told, and keeps what it was fed."""

    def __init__(self, inputs: dict[str, list[int]], answers: dict[str, NDArray[Any]]) -> None:
        self._inputs = [Value(name, shape) for name, shape in inputs.items()]
        self._answers = answers
        self.fed: list[dict[str, NDArray[Any]]] = []

    def get_inputs(self) -> list[Value]:
        return self._inputs

    def get_outputs(self) -> list[Value]:
        return [Value(name, [*answer.shape]) for name, answer in self._answers.items()]

    def run(self, _: None, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.fed.append(feeds)
        return [*self._answers.values()]


@pytest.fixture
def photograph() -> NDArray[np.uint8]:
    """Dark at the left, white at the right."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, WIDTH // 2 :] = 255
    return picture


def right_half(height: int, width: int, of: int) -> NDArray[np.float32]:
    """Logits of a mask whose picture fills ``of`` columns, positive on the right half of those."""
    logits = np.full((height, width), -4, np.float32)
    logits[:, of // 2 : of] = 4
    return logits


SAM_INPUTS = {
    name: [1] for name in ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
}


@pytest.mark.parametrize("shape", [[-1, -1, 3], [1, 3, 1024, 1024]])
def test_sam(photograph: NDArray[np.uint8], shape: list[int]) -> None:
    encoder = Session({"input": shape}, {"image_embeddings": np.ones((1, 256, 64, 64), np.float32)})
    good, bad = right_half(256, 256, 256), np.zeros((256, 256), np.float32)
    good[128:] = -4  # below the picture, which is twice as wide as high
    masks = {"low_res_masks": np.stack([bad, good])[np.newaxis], "iou_predictions": np.array([[0.1, 0.9]])}
    decoder = Session(SAM_INPUTS | {"orig_im_size": [2]}, masks)
    segmenter = Segmenter(encoder, decoder)
    mask = segmenter.mask(photograph, [INSIDE, OUTSIDE])
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[:, WIDTH // 2 + 2 :].all()
    assert not mask[:, : WIDTH // 2 - 2].any()
    (fed,) = decoder.fed
    scale = 1024 / WIDTH
    expected = np.array([[[90 * scale, 30 * scale], [10 * scale, 30 * scale], [0.0, 0.0]]])
    assert np.allclose(fed["point_coords"], expected)
    assert fed["point_labels"].tolist() == [[1, 0, -1]]
    (picture,) = (feeds["input"] for feeds in encoder.fed)
    assert picture.shape == ((512, 1024, 3) if len(shape) == 3 else (1, 3, 1024, 1024))
    segmenter.mask(photograph, [INSIDE])
    assert len(encoder.fed) == 1, "a photograph is encoded once"
    segmenter.mask(photograph[:, ::-1], [INSIDE])
    assert len(encoder.fed) == 2


def test_sam_2(photograph: NDArray[np.uint8]) -> None:
    names = ("high_res_feats_0", "high_res_feats_1", "image_embed")
    encoder = Session({"image": [1, 3, 1024, 1024]}, {name: np.ones((1, 2), np.float32) for name in names})
    inputs = {name: [1] for name in (*names, "point_coords", "point_labels", "mask_input", "has_mask_input")}
    decoder = Session(inputs, {"masks": right_half(256, 256, 256)[np.newaxis, np.newaxis]})
    mask = Segmenter(encoder, decoder).mask(photograph, [INSIDE])
    assert mask[:, WIDTH // 2 + 2 :].all()
    assert not mask[:, : WIDTH // 2 - 2].any()
    (fed,) = decoder.fed
    assert np.allclose(fed["point_coords"], [[[90 * 1024 / WIDTH, 512]]])
    assert set(names) <= fed.keys()


def test_efficient_sam(photograph: NDArray[np.uint8]) -> None:
    encoder = Session({"batched_images": [1, 3, -1, -1]}, {"image_embeddings": np.ones((1, 2), np.float32)})
    names = ("image_embeddings", "batched_point_coords", "batched_point_labels", "orig_im_size")
    inputs = {name: [1] for name in names}
    decoder = Session(inputs, {"output_masks": right_half(HEIGHT, WIDTH, WIDTH)[np.newaxis, np.newaxis, np.newaxis]})
    mask = Segmenter(encoder, decoder).mask(photograph, [INSIDE])
    assert np.array_equal(mask, np.repeat([[0] * 60 + [1] * 60], HEIGHT, axis=0))
    assert encoder.fed[0]["batched_images"].max() == 1.0
    assert decoder.fed[0]["batched_point_coords"].tolist() == [[[[90.0, 30.0]]]]
    assert decoder.fed[0]["orig_im_size"].tolist() == [HEIGHT, WIDTH]


def test_other_networks_are_refused() -> None:
    with pytest.raises(InputError, match="takes tokens: it is none of SAM"):
        Segmenter(Session({"image": [1]}, {}), Session({"tokens": [1]}, {}))


@pytest.mark.parametrize("content", [None, [], [[1, 2]], [["a", 1, True]], [[1, 2, False]], [[1, 2, True]] * 101])
def test_clicks_that_make_no_sense_are_refused(content: object) -> None:
    with pytest.raises(InputError):
        clicks_from_json(content)
