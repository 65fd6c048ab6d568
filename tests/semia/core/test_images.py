"""Reading and writing pictures, whole ones and broken ones."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semia.core import images
from semia.core.errors import ImageError
from semia.core.images import find_image, list_images, open_image, read_rgb, rgb_array, write_rgb

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


@pytest.mark.parametrize("side", [8001, 12000, 30000])
def test_decompression_bombs_are_refused_unread(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    with pytest.raises(ImageError, match=r"bomb\.png"):
        open_image(path)


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


def test_pictures_are_listed_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "absent")
    for name in ("2.png", "1.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.JPG", "2.png"]
