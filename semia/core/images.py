"""Reading and writing pictures as ``uint8[H, W, 3]`` arrays."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import TiffImageFile

from semia.core.errors import ImageError, InputError
from semia.core.files import staged_file

RGB = NDArray[np.uint8]
"""A picture: ``uint8[H, W, 3]``."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's gray modes that its own conversion would clip
PROFILED_MODES = ("RGB", "CMYK", "L")  # Pillow's modes that a color profile can be meant for; others are expanded first
PAGES = "pages"  # where `open_image` notes, in a Pillow picture's ``info``, how many pages or frames the file has
UNSIGNED = "unsigned"  # where `open_image` notes that numbers of 32 bits have no sign, which Pillow's mode does not say
TIFF_SAMPLE_FORMAT, TIFF_UNSIGNED = 339, 1
SLACK = 0.1  # by how much of their range floats may leave it at either end: sharpening and scaling overshoot
DARK = 32  # a photograph of more than 8 bits that is nowhere as bright as this (0-255) may be meant to be brighter
MAX_PIXELS = 64_000_000  # larger ones are refused unread: none is trained on or served; small files may claim any size


def open_image(path: Path) -> Image.Image:
    """Read a picture file whole, upright (EXIF orientation applied), in its own mode; of several pages, the first.

    Raises:
        ImageError: if the file is missing, broken, or claims more than `MAX_PIXELS`.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ImageError(f"{path} is no file: a pipe or a device is never read")
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{path} is {image.width}x{image.height}: more than {MAX_PIXELS:,} pixels")
            pages = getattr(image, "n_frames", 1)
            image.load()
            upright = ImageOps.exif_transpose(image)
            upright.info[PAGES] = pages
            if isinstance(image, TiffImageFile):
                upright.info[UNSIGNED] = image.tag_v2.get(TIFF_SAMPLE_FORMAT, (TIFF_UNSIGNED,))[0] == TIFF_UNSIGNED
            return upright
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path} claims to be larger than any picture here may be: {MAX_PIXELS:,} pixels") from None
    except FileNotFoundError:
        raise ImageError(f"no such picture: {path}") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not a picture") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        reason = str(error) or type(error).__name__
        raise ImageError(f"cannot read {path} as a picture: {reason}") from error


def read_rgb(path: Path) -> RGB:
    """Read a picture as ``uint8[H, W, 3]``; an alpha channel is dropped, gray and indexed modes are expanded.

    Raises:
        ImageError: as `open_image`.
    """
    return rgb_array(open_image(path), str(path))


def rgb_array(image: Image.Image, what: str = "the picture") -> RGB:
    """A Pillow picture of any mode as ``uint8[H, W, 3]``; an alpha channel is dropped.

    Raises:
        ImageError: if the picture was opened lazily and its file is broken, or its gray values have no range.
    """
    if image.mode in DEEP_MODES:
        return np.repeat(_in_eight_bits(gray_values(image), what)[..., np.newaxis], 3, axis=2)
    try:
        # Pillow warns when an indexed picture's alpha is dropped in one step.
        opaque = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
        return np.asarray(opaque.convert("RGB"))
    except Exception as error:  # as in open_image: this may be where the file is read
        raise ImageError(f"cannot read {what}: {error}") from error


def gray_values(image: Image.Image) -> NDArray[Any]:
    """The numbers of a gray picture of one of the `DEEP_MODES`, ``[H, W]``, of its own type.

    Raises:
        ImageError: if the picture was opened lazily and its file is broken.
    """
    try:
        values = np.asarray(image)
    except Exception as error:  # as in open_image: this may be where the file is read
        raise ImageError(f"cannot read the picture: {error}") from error
    return values.view(np.uint32) if image.mode == "I" and image.info.get(UNSIGNED) else values


def _in_eight_bits(values: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Gray values of 16 or 32 bits or floats, in the range that their type and size tell, scaled to 0 to 255."""
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    ranges, slack = [255.0, 65535.0, float(np.iinfo(np.uint32).max)], 0.0
    if values.dtype.kind == "f":
        ranges, slack = [1.0, *ranges], SLACK
    elif values.dtype.itemsize == 2:
        ranges = [65535.0]
    elif values.dtype.kind == "i":
        ranges[-1] = float(np.iinfo(np.int32).max)
    full = next((top for top in ranges if most <= top * (1 + slack)), None)
    if full is None or not least >= -slack * full:
        raise ImageError(
            f"{what} has gray values from {least:g} to {most:g}, which are no brightnesses from black to white: "
            "save it with 8 or 16 bits"
        )
    scaled: NDArray[np.uint8] = np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8)
    return scaled


def read_photograph(path: Path) -> tuple[RGB, tuple[str, ...]]:
    """Read a photograph as sRGB ``uint8[H, W, 3]``, and a line for each thing about it that was ignored.

    An embedded color profile, such as Display P3's, is converted to sRGB.

    Raises:
        ImageError: as `open_image`.
    """
    image = open_image(path)
    embedded = image.info.get("icc_profile")
    notes: tuple[str, ...] = ()
    if image.mode in DEEP_MODES:
        most, image = gray_values(image).max(), Image.fromarray(rgb_array(image, str(path))[..., 0])
        if (brightest := np.asarray(image).max()) < DARK:
            share = f"its gray values reach {most:g}, {100 * brightest / 255:.0f} % of white"
            notes = (f"{path} is dark: {share}; if it should be brighter, save it with 8 bits",)
    if not embedded:
        return rgb_array(image), notes
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return rgb_array(image), notes
        plain = image if image.mode in PROFILED_MODES else image.convert("RGB")
        converted = ImageCms.profileToProfile(plain, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        notes += (f"{path}: its color profile cannot be used ({reason}); its numbers count as sRGB",)
        return rgb_array(image), notes
    assert converted is not None, "only a conversion in place returns nothing"
    return np.asarray(converted), notes


def write_rgb(path: Path, picture: RGB) -> None:
    """Write ``uint8[H, W, 3]`` as a picture file, whole or not at all; the suffix chooses the format.

    Raises:
        ImageError: if the suffix is no picture format or the disk refuses.
    """
    write_image(path, Image.fromarray(picture))


def write_image(path: Path, image: Image.Image, text: Mapping[str, str] | None = None) -> None:
    """Write a Pillow picture, whole or not at all; the suffix chooses the format.

    A PNG file says ``text`` about itself, by keyword (Latin-1, at most 79 characters each); other formats leave it out.

    Raises:
        ImageError: if the suffix is no picture format or the disk refuses.
    """
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    try:
        with staged_file(path) as staging:
            image.save(staging, pnginfo=chunks)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot write {path}: {error}") from error


def find_image(folder: Path, stem: str) -> Path | None:
    """The picture called ``stem`` with any picture suffix in ``folder``, whatever the case of its name, or None.

    Raises:
        ImageError: if there are several.
    """
    if not folder.is_dir():
        return None
    pictures = (path for path in folder.iterdir() if is_image(path) and not path.is_dir())
    return _only([path for path in pictures if path.stem.lower() == stem.lower()], f"the {stem}")


def find_entry(folder: Path, name: str) -> Path:
    """What is called ``name`` in ``folder``, whatever the case of its name; where there is none, what would be.

    Raises:
        ImageError: if there are several.
    """
    try:
        found = [path for path in folder.iterdir() if path.name.lower() == name.lower()]
    except OSError:
        return folder / name
    return _only(found, name) or folder / name


def _only(found: list[Path], what: str) -> Path | None:
    if len(found) > 1:
        names = " and ".join(sorted(path.name for path in found))
        raise ImageError(f"{found[0].parent} has {names}: which is {what}? Keep one")
    return found[0] if found else None


def list_images(folder: Path) -> list[Path]:
    """The visible picture files directly in ``folder``, sorted by name.

    Raises:
        ImageError: if the folder is missing or holds none, or two whose names differ in their suffixes alone.
    """
    if not folder.is_dir():
        raise ImageError(f"no such folder of pictures: {folder}")
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if not paths:
        raise ImageError(f"no pictures ({', '.join(IMAGE_SUFFIXES)}) in {folder}")
    by_stem = {path.stem: path for path in paths}
    for path in paths:
        if by_stem[path.stem] != path:
            raise ImageError(f"{folder} has {path.name} and {by_stem[path.stem].name}: which is {path.stem}? Keep one")
    return paths


def is_image(path: Path) -> bool:
    """Whether a file's name is a visible picture's."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def output_files(targets: Iterable[Path], out: Path) -> dict[Path, Path]:
    """The picture file of each label map: ``out/STEM.png``.

    Raises:
        InputError: if two label maps would share one, or a picture would replace its label map.
    """
    outputs = {path: out / f"{path.stem}.png" for path in targets}
    count = Counter(outputs.values())
    for path, output in outputs.items():
        if count[output] > 1:
            raise InputError(f"two label maps are called {path.stem!r}: give them different names or run them apart")
        if output.resolve() == path.resolve():
            raise InputError(f"the picture of {path} would replace it: choose another --out")
    return outputs
