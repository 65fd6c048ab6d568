"""Importing is checked against the method stated once more, in plain PyTorch under the public code's names."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from semia.training.errors import CheckpointError
from semia.training.published.pretrained import read_published_generator

REFERENCE = "SEMIA_REFERENCE_CHECKPOINT"
"""The variable that names a folder of latest_net_G.pth and io.npz, made with the public code."""

BOUND = 1e-4
"""Largest difference from the public code's output, as a share of that output's range."""

AFFECTED = 0.1
"""Largest share of pixels that may differ by more."""


class Wrapped(nn.Module):
    """A sequence under a name of its own, with what may stand beside it."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def stage(convolution: nn.Module, channels: int, *, act: bool = True) -> list[nn.Module]:
    return [spectral_norm(convolution), nn.BatchNorm2d(channels), *([nn.LeakyReLU(0.2)] if act else [])]


def base(inputs: int, outputs: int, kernel: int) -> Wrapped:
    convolution = nn.Conv2d(inputs, outputs, kernel, bias=False)
    return Wrapped(main=nn.Sequential(nn.ReflectionPad2d(kernel // 2), *stage(convolution, outputs)))


def bottleneck(c: int) -> Wrapped:
    middle = [nn.ReflectionPad2d(1), *stage(nn.Conv2d(c // 4, c // 4, 3), c // 4)]
    last = stage(nn.Conv2d(c // 4, c, 1), c, act=False)
    return Wrapped(conv_block=nn.Sequential(*stage(nn.Conv2d(c, c // 4, 1), c // 4), *middle, *last))


def bare_bottleneck(c: int) -> Wrapped:
    first = [spectral_norm(nn.Conv2d(c, c // 4, 1)), nn.LeakyReLU(0.2), nn.ReflectionPad2d(1)]
    rest = [spectral_norm(nn.Conv2d(c // 4, c // 4, 3)), nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(c // 4, c, 1))]
    return Wrapped(conv_block=nn.Sequential(*first, *rest))


def resize(c: int, convolution: nn.Module, outputs: int) -> Wrapped:
    same = stage(nn.Conv2d(c, c, 3, padding=1), c)
    return Wrapped(res_block=bottleneck(c), main=nn.Sequential(*same, *stage(convolution, outputs)))


def down(c: int) -> Wrapped:
    return resize(c, nn.Conv2d(c, 2 * c, 4, stride=2, padding=1), 2 * c)


def up(c: int) -> Wrapped:
    return resize(c, nn.ConvTranspose2d(c, c // 2, 4, stride=2, padding=1), c // 2)


def encoder(b: int, n: int) -> Wrapped:
    downs = nn.ModuleList(down(b << level) for level in range(n))
    return Wrapped(head_block=base(3, b, 7), down_block=downs, tail_block=base(b << n, b << n, 3))


def film(b: int, n: int) -> Wrapped:
    def head(c: int) -> nn.Sequential:
        narrow, wide = spectral_norm(nn.Conv2d(c, c // 2, 1)), spectral_norm(nn.Conv2d(c // 2, c, 1))
        return nn.Sequential(bare_bottleneck(c), narrow, nn.ReLU(), wide)

    return Wrapped(bottlenecks=nn.ModuleList(head(b << level) for level in range(1, n + 1)))


class PublicGenerator(nn.Module):
    """The method as its paper states it; modules hold weights under the public names, functions do the work."""

    def __init__(self, b: int, n: int) -> None:
        super().__init__()
        self.depth = n
        self.encoder_c, self.encoder_i = encoder(b, n), encoder(b, n)
        ups = nn.ModuleList(up(b << level) for level in range(n, 0, -1))
        self.decoder_i = Wrapped(head_block=base(b << n, b << n, 3), up_block=ups, tail_block=base(b, 3, 3))
        self.FiLM_c2i_alpha, self.FiLM_c2i_beta = film(b, n), film(b, n)

    def run(self, path: str, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(path)(x)
        return result

    def block(self, path: str, x: Tensor) -> Tensor:
        return self.run(f"{path}.main", x + self.run(f"{path}.res_block.conv_block", x))

    def head(self, path: str, x: Tensor) -> Tensor:
        x = x + self.run(f"{path}.0.conv_block", x)
        return self.run(f"{path}.3", F.relu(self.run(f"{path}.1", x)))

    def label_features(self, labels: Tensor) -> list[Tensor]:
        x, features = self.run("encoder_c.head_block.main", labels), []
        for level in range(self.depth):
            x = self.block(f"encoder_c.down_block.{level}", x)
            features.append(x)
        return features

    def forward(self, image: Tensor, source: Tensor, target: Tensor) -> Tensor:
        scales, shifts = [], []
        for level, (f, f_new) in enumerate(zip(self.label_features(source), self.label_features(target), strict=True)):
            scales.append(self.head(f"FiLM_c2i_alpha.bottlenecks.{level}", (f_new + 1e-14) / (f + 1e-14)))
            shifts.append(self.head(f"FiLM_c2i_beta.bottlenecks.{level}", f_new - f))

        def modulate(x: Tensor, level: int) -> Tensor:
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True)
            return scales[level] * (x - mean) / torch.sqrt(variance + 1e-5) + shifts[level]

        x = self.run("encoder_i.head_block.main", image)
        for level in range(self.depth):
            x = modulate(self.block(f"encoder_i.down_block.{level}", x), level)
        x = self.run("decoder_i.head_block.main", self.run("encoder_i.tail_block.main", x))
        for index in range(self.depth):
            x = self.block(f"decoder_i.up_block.{index}", modulate(x, self.depth - 1 - index))
        return self.run("decoder_i.tail_block.main", x)


def colors(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def public_generator(b: int, n: int) -> PublicGenerator:
    """In inference mode, with norms that have seen pictures."""
    torch.manual_seed(b + n)
    network = PublicGenerator(b, n)
    for step in range(5):
        network(*(colors(64, 48, 3 * step + part) for part in range(3)))
        network.run("encoder_c.tail_block.main", torch.rand(1, b << n, 4, 4))
    return network.eval()


Saved = Callable[[dict[str, object]], Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def save(state: dict[str, object]) -> Path:
        torch.save(state, tmp_path / "latest_net_G.pth")
        return tmp_path / "latest_net_G.pth"

    return save


@pytest.fixture
def state() -> dict[str, object]:
    return dict(public_generator(4, 2).state_dict())


@pytest.mark.parametrize(
    ("b", "n", "size"), [(8, 3, (48, 64)), (4, 2, (36, 44)), (12, 1, (34, 38)), (4, 4, (64, 48)), (16, 3, (40, 72))]
)
def test_any_width_depth_and_canvas_draws_what_the_method_says(
    b: int, n: int, size: tuple[int, int], saved: Saved
) -> None:
    public = public_generator(b, n)
    generator = read_published_generator(saved(dict(public.state_dict())))
    assert (generator.width, generator.depth, generator.ratio_limit) == (b, n, None)
    assert not generator.training
    inputs = [colors(*size, seed=seed) for seed in (100, 101, 102)]
    # In float64, where a denominator that is almost 0 does not yet tell one rounding from another.
    with torch.no_grad():
        expected = public.double()(*(tensor.double() for tensor in inputs))
        output = generator.double()(*(tensor.double() for tensor in inputs)).image
    assert output.shape == expected.shape == (1, 3, *size)
    assert (output - expected).abs().max() <= 1e-9 * (expected.max() - expected.min())


def test_a_checkpoint_of_bfloat16_becomes_float32(saved: Saved) -> None:
    generator = read_published_generator(saved(dict(public_generator(4, 2).bfloat16().state_dict())))
    assert {tensor.dtype for tensor in generator.state_dict().values()} == {torch.float32, torch.int64}


def without(state: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in state.items() if key != name}


CONVOLUTION = "encoder_i.down_block.1.main.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, f"{CONVOLUTION}_u"), f"lacks {CONVOLUTION}_u of a published"),
        (
            lambda s: {key: s[key] for key in s if "decoder_i" not in key},
            r"lacks decoder_i\.head_block.* more entries of",
        ),
        (lambda s: without(s, "encoder_c.head_block.main.1.weight_orig"), "not a published SemIA generator"),
        (lambda s: s | {"encoder_i.extra.weight": torch.zeros(1)}, r"has encoder_i\.extra\.weight, which no"),
        (lambda s: s | {f"{CONVOLUTION}_orig": torch.zeros(8, 8, 3, 5)}, r"shape \[8, 8, 3, 5\], not \[8, 8, 3, 3\]"),
        (lambda s: s | {f"{CONVOLUTION}_v": torch.zeros(72, dtype=torch.int32)}, "is torch.int32, not plain"),
        (lambda s: s | {f"{CONVOLUTION}_u": torch.full((8,), torch.nan)}, "weight_u holds values that are not finite"),
        (lambda s: s | {f"{CONVOLUTION}_u": torch.zeros(8)}, f"the spectral norm of {CONVOLUTION}_orig is 0"),
        (lambda s: s | {"decoder_i.tail_block.main.2.running_var": -torch.ones(3)}, "running_var is negative"),
        (lambda s: s | {"encoder_c.head_block.main.1.weight_orig": torch.zeros(6, 3, 7, 7)}, "width 6 and depth 2"),
        (lambda s: s | {"encoder_c.down_block.30.main.0.bias": torch.zeros(1)}, "width 4 and depth 31"),
        (lambda s: s | {"note": "mine"}, "not a state dict of tensors"),
        (lambda s: list(s), "not a state dict of tensors"),
        (lambda _: {}, "not a published SemIA generator"),
        (lambda _: {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "not a published SemIA generator"),
    ],
)
def test_what_is_wrong_is_named(
    change: Callable[[dict[str, object]], dict[str, object]], message: str, saved: Saved, state: dict[str, object]
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_published_generator(saved(change(state)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage", b"junk\n", b"I1\n.", pickle.dumps({"a": 1}), b"PK\x03\x04" * 9])
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "garbage.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"garbage\.pth"):
        read_published_generator(tmp_path / "garbage.pth")


def test_half_a_file_is_refused(saved: Saved, state: dict[str, object]) -> None:
    path = saved(state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="broken or not a plain state dict"):
        read_published_generator(path)


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_published_generator(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_published_generator(tmp_path)


class Exploit:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("this must never run",)


def test_code_in_a_checkpoint_is_never_run(
    saved: Saved, state: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="not a plain state dict"):
        read_published_generator(saved(state | {f"{CONVOLUTION}_orig": Exploit()}))
    assert capsys.readouterr().out == ""


@pytest.fixture
def reference() -> Path:
    if REFERENCE not in os.environ:
        pytest.skip(f"{REFERENCE} does not name a folder with the public code's latest_net_G.pth and io.npz")
    return Path(os.environ[REFERENCE])


def reference_pair(folder: Path) -> tuple[list[Tensor], Tensor]:
    """The acceptance pair's inputs (image, source labels, target labels) and output."""
    pair = np.load(folder / "io.npz")

    def tensor(picture: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1

    palette = pair["palette"]
    pictures = (pair["source_image"], palette[pair["source_labels"]], palette[pair["target_labels"]])
    return [tensor(picture) for picture in pictures], torch.from_numpy(pair["output"])


# Source features of the acceptance pair that are almost 0 where the target's are not: level, channel, row, column,
# and the value that the pair's machine rounded to. Both come out of batch norms that cancel terms of size 0.01 to 1,
# so float32 leaves them uncertain by 1e-8 or so; the ratio multiplies that by 1e5 and 1e3.
ILL_CONDITIONED = (((0, 7, 5, 3), -7.54889e-07), ((2, 33, 1, 4), -1.83158e-06))
ROUNDING = 3e-8  # half the spacing of float32 numbers below 1


def test_the_public_codes_output_is_met_given_its_rounding_of_two_features(reference: Path) -> None:
    generator = read_published_generator(reference / "latest_net_G.pth")
    (image, source, target), expected = reference_pair(reference)
    with torch.no_grad():
        source_features, target_features = generator.label_encoder(source), generator.label_encoder(target)
        for (level, *place), value in ILL_CONDITIONED:
            feature = source_features[level][0][tuple(place)]
            assert abs(feature.item() - value) < ROUNDING
            feature.fill_(value)
        translation = generator.translate(source_features, target_features)
        output = generator.decoder(generator.image_encoder(image, translation), translation)
    assert (output - expected).abs().max() <= BOUND * (expected.max() - expected.min())


def difference_from(reference: Path) -> Tensor:
    """Of our output from the public code's, as a share of that output's range."""
    generator = read_published_generator(reference / "latest_net_G.pth")
    inputs, expected = reference_pair(reference)
    with torch.no_grad():
        return cast(Tensor, (generator(*inputs).image - expected).abs() / (expected.max() - expected.min()))


def test_the_public_codes_output_is_met_almost_everywhere(reference: Path) -> None:
    # Two features of the source are almost 0: their float32 values' last bits, which differ between machines, are
    # magnified by the ratio. The pixels around, 4 % of all, differ from the public code's by up to 0.4 % here.
    difference = difference_from(reference)
    assert difference.median() <= 1e-6
    assert (difference > BOUND).any(dim=1).float().mean() < AFFECTED
    assert difference.max() <= 0.05
