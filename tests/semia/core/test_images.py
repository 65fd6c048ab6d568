"""Reading and writing pictures, whole ones and broken ones."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from semia.core import images
from semia.core.errors import ImageError
from semia.core.images import find_image, list_images, open_image, read_photograph, read_rgb, rgb_array, write_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_written_pictures_are_read_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"picture{suffix}"
    write_rgb(path, NOISE)
    np.testing.assert_array_equal(read_rgb(path), NOISE)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["picture.xyz", "picture"])
def test_a_suffix_that_is_no_format_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=name):
        write_rgb(tmp_path / name, NOISE)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by a quarter
    path = tmp_path / "turned.png"
    Image.fromarray(NOISE).save(path, exif=exif)
    np.testing.assert_array_equal(read_rgb(path), np.rot90(NOISE, -1))


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    for mode in ("RGB", "RGBA", "P", "CMYK"):
        assert rgb_array(red.convert(mode)).tolist() == [[[255, 0, 0]] * 3] * 2
    assert rgb_array(Image.new("LA", (1, 1), (9, 0))).tolist() == [[[9, 9, 9]]]
    assert rgb_array(Image.new("1", (1, 1), 1)).tolist() == [[[255, 255, 255]]]
    indexed = red.convert("P")
    indexed.save(tmp_path / "indexed.png", transparency=bytes([10, 200, 30]))
    assert read_rgb(tmp_path / "indexed.png").tolist() == [[[255, 0, 0]] * 3] * 2


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such picture"):
        read_rgb(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_rgb(tmp_path)
    for content in (b"", b"not a picture", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / "text.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"cannot read .*text\.png"):
            read_rgb(tmp_path / "text.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_broken_pictures_raise_nothing_else(tmp_path: Path, file_format: str) -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x10E] = "a description"
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, file_format, **({} if file_format == "BMP" else {"exif": exif}))
    whole = buffer.getvalue()
    path = tmp_path / "broken"
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 3, 10))):
            content[rng.integers(min(200, len(content)))] = rng.integers(256)
        path.write_bytes(content[: rng.choice((len(content), rng.integers(len(content))))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about damaged metadata of pictures it can read
            try:
                picture = read_rgb(path)
                assert picture.dtype == np.uint8
                assert picture.ndim == 3
            except ImageError:
                refused += 1
    assert refused > 10


def test_a_picture_that_breaks_when_it_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    write_rgb(path, NOISE)
    path.write_bytes(path.read_bytes()[:500])
    with Image.open(path) as lazily_opened, pytest.raises(ImageError, match="cannot read the picture"):
        rgb_array(lazily_opened)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [8001, 12000, 30000])
def test_decompression_bombs_are_refused_unread(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    with pytest.raises(ImageError, match=r"bomb\.png (is|claims) .*64,000,000 pixels$"):
        open_image(path)


def test_large_pictures_are_refused_in_our_words_where_warnings_are_errors(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(12000, 12000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"bomb\.png claims .*64,000,000 pixels$"):
            open_image(tmp_path / "bomb.png")


def test_the_limit_itself_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rgb(tmp_path / "picture.png", NOISE)
    monkeypatch.setattr(images, "MAX_PIXELS", 600)
    assert open_image(tmp_path / "picture.png").size == (30, 20)
    monkeypatch.setattr(images, "MAX_PIXELS", 599)
    with pytest.raises(ImageError, match="30x20: more than 599 pixels"):
        open_image(tmp_path / "picture.png")


def test_pictures_are_found_by_stem(tmp_path: Path) -> None:
    assert find_image(tmp_path, "img") is None
    (tmp_path / "img.txt").touch()
    (tmp_path / "img.jpg").touch()
    assert find_image(tmp_path, "img") == tmp_path / "img.jpg"


def test_pipes_and_links_that_lead_nowhere_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "img.png")
    (tmp_path / "label.png").symlink_to("label.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for stem, words in (
        ("img", "is no file: a pipe or a device"),
        ("label", "Too many levels|cannot read"),
        ("gone", "no such picture"),
        ("zero", "is no file"),
    ):
        path = find_image(tmp_path, stem)
        assert path is not None
        with pytest.raises(ImageError, match=words):
            open_image(path)


def test_pictures_are_listed_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "absent")
    for name in ("2.png", "1.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.JPG", "2.png"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16), [[0, 100], [200, 255]]),
        (np.array([[0, 1], [2, 3]], np.uint16), [[0, 0], [0, 0]]),
        (np.array([[0, 100], [200, 255]], np.int32), [[0, 100], [200, 255]]),
        (np.array([[0, 257 * 100], [257 * 200, 65535]], np.int32), [[0, 100], [200, 255]]),
        (np.array([[0, 100 * 8421504], [200 * 8421504, 2**31 - 1]], np.int32), [[0, 100], [200, 255]]),
        (np.array([[0.0, 0.5], [1.0, 0.2]], np.float32), [[0, 128], [255, 51]]),
        (np.array([[-0.02, 0.5], [1.03, 0.2]], np.float32), [[0, 128], [255, 51]]),
        (np.array([[0, 100], [200, 255]], np.float32), [[0, 100], [200, 255]]),
    ],
    ids=["16 bits", "16 dark bits", "8 of 32 bits", "16 of 32 bits", "32 bits", "floats", "overshoot", "8-bit floats"],
)
def test_deep_grays_are_scaled_not_clipped(values: NDArray[np.generic], expected: list[list[int]]) -> None:
    gray = rgb_array(Image.fromarray(values))
    assert gray.shape == (2, 2, 3)
    assert gray[..., 0].tolist() == expected


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<u4"])
def test_deep_grays_of_either_byte_order_and_without_sign(tmp_path: Path, kind: str) -> None:
    """As TIFF files have them; Pillow calls large values of 32 bits negative."""
    full = int(np.iinfo(kind).max)
    (tmp_path / "deep.tif").write_bytes(gray_tiff(np.array([[0, full // 255, full // 255 * 128, full]], kind)))
    assert read_rgb(tmp_path / "deep.tif")[0, :, 0].tolist() == [0, 1, 128, 255]


def gray_tiff(values: NDArray[np.unsignedinteger[Any]]) -> bytes:
    """One row of gray values as a TIFF file of one strip, as cameras' programs write them."""
    data, bits, width = values.tobytes(), values.dtype.itemsize * 8, values.shape[1]
    order = ">" if values.dtype.str[0] == ">" else "<"
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data), 339: 1}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "values", [[0.1, np.nan], [0.1, np.inf], [-0.5, 0.5], [0.0, 1e12]], ids=["nan", "inf", "negative", "large"]
)
def test_grays_that_are_no_brightnesses_are_refused(tmp_path: Path, values: list[float]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "img.tif")
    for read in (read_rgb, read_photograph):
        with pytest.raises(ImageError, match=r"img\.tif has gray values from .* save it with 8 or 16 bits$"):
            read(tmp_path / "img.tif")


def test_a_photograph_that_is_dark_in_its_range_is_said_to_be(tmp_path: Path) -> None:
    """Twelve bits of a camera in a file of sixteen."""
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "img.png")
    picture, (note,) = read_photograph(tmp_path / "img.png")
    assert picture.max() == 16
    assert note.endswith(
        "img.png is dark: its gray values reach 4095, 6 % of white; if it should be brighter, save it with 8 bits"
    )


def test_names_are_found_whatever_their_case_and_only_one(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "IMG.PNG")
    assert find_image(tmp_path, "img") == tmp_path / "IMG.PNG"
    Image.new("RGB", (4, 4)).save(tmp_path / "img.jpg")
    with pytest.raises(ImageError, match=r"IMG\.PNG and img\.jpg: which is the img"):
        find_image(tmp_path, "img")


def test_an_embedded_color_profile_is_converted(tmp_path: Path) -> None:
    """Lab is a profile that Pillow can make itself; as numbers its channels would be far from the colors."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    assert srgb is not None
    swapped = Image.new("RGB", (8, 8), (200, 40, 90))
    swapped.save(tmp_path / "srgb.png", icc_profile=ImageCms.ImageCmsProfile(srgb).tobytes())
    picture, notes = read_photograph(tmp_path / "srgb.png")
    assert picture[0, 0].tolist() == [200, 40, 90]
    assert notes == ()
    swapped.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    picture, notes = read_photograph(tmp_path / "broken.png")
    assert picture[0, 0].tolist() == [200, 40, 90]
    assert len(notes) == 1
    assert "broken.png: its color profile cannot be used" in notes[0]
    swapped.save(tmp_path / "lab.png", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert "cannot be used" in read_photograph(tmp_path / "lab.png")[1][0]


def test_a_wide_gamut_becomes_srgb(tmp_path: Path) -> None:
    wide = with_primaries(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))  # Display P3's
    Image.new("RGB", (8, 8), (128, 200, 128)).save(tmp_path / "p3.png", icc_profile=wide)
    picture, notes = read_photograph(tmp_path / "p3.png")
    assert notes == ()
    # By the two color spaces' primaries, and sRGB's curve, worked out by hand.
    assert np.abs(picture[0, 0].astype(int) - (104, 204, 121)).max() <= 2


def with_primaries(primaries: tuple[tuple[float, float], ...]) -> bytes:
    """A matrix profile (ICC.1, version 2) of gamma 2.2 with these chromaticities, as cameras and phones embed them."""
    white = np.array([0.9504559, 1.0, 1.0890578])  # D65
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapted = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ white)) @ bradford @ columns

    def fixed(numbers: NDArray[np.float64]) -> bytes:
        return b"".join(struct.pack(">i", round(float(number) * 65536)) for number in numbers)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    text = b"text" + bytes(4) + b"test\0" + bytes(3)
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"Wide\0" + bytes(78 + 3)
    tags = {b"desc": description, b"cprt": text, b"wtpt": b"XYZ " + bytes(4) + fixed(d50)}
    for name, column in zip((b"r", b"g", b"b"), adapted.T, strict=True):
        tags |= {name + b"XYZ": b"XYZ " + bytes(4) + fixed(column), name + b"TRC": curve}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += padded
    size = 128 + len(table) + len(data)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + fixed(d50)
    return header + bytes(128 - len(header)) + table + data
