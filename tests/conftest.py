"""Fixtures shared by all rooms: a tiny scene and settings, a real bundle, and a real Triton that serves it.

What only some rooms need (PyTorch, ONNX, the server) is imported by the fixtures that use it.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trustme
from numpy.typing import NDArray
from PIL import Image

from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME, ModelCard, TargetParity
from semia.core.palette import Palette
from semia.training.scene import Scene

if TYPE_CHECKING:
    from semia import serving
    from semia.training.copying.generator import CopyingGenerator
    from semia.training.copying.settings import CopyingSettings
    from semia.training.settings import TrainingSettings
    from semia.training.tensors import SceneTensors

MakeBundle = Callable[..., Path]

SCENE_HEIGHT, SCENE_WIDTH = 44, 60  # neither is a multiple of 8: padding is always exercised
SCENE_PALETTE = Palette(((0, 0, 255), (0, 255, 0), (255, 0, 0)), ("sky", "grass", "box"))

TINY_PALETTE = Palette(((255, 0, 0), (0, 255, 0), (0, 0, 255)), ("roof", "lawn", "sky"))


def write_bundle(
    folder: Path, *, name: str = "tiny", palette: Palette = TINY_PALETTE, height: int = 48, width: int = 64
) -> Path:
    """Write a bundle whose graph paints every class in its palette color: uint8[N,H,W] -> uint8[N,H,W,3]."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT_NAME], ["ids"], to=TensorProto.INT32),
            helper.make_node("Gather", ["palette", "ids"], [OUTPUT_NAME], axis=0),
        ],
        "paint",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", height, width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.UINT8, ["N", height, width, 3])],
        [numpy_helper.from_array(palette.array, "palette")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / MODEL_FILE)
    ModelCard(
        name=name,
        preset="test",
        canvas_height=height,
        canvas_width=width,
        palette=palette.hex_codes,
        class_names=palette.names,
        parameters=palette.array.size,
        iterations=0,
        precision="fp32",
        opset=18,
        generator_sha256="0" * 64,
        graph_sha256=sha256_of_file(folder / MODEL_FILE),
        versions={"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        parity_tolerance=0,
        parity=(TargetParity("target", max_abs=0, mean_abs=0.0),),
        exported_at="2026-11-22T12:00:00+00:00",
    ).write(folder / CARD_FILE)
    return folder


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """`write_bundle`, for tests that need a bundle of their own: ``make_bundle(folder, name=..., palette=...)``."""
    return write_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes on a 64x48 canvas; shared, so do not change it."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def free_ports() -> list[int]:
    """Loopback ports that nobody listens on: gRPC, metrics."""
    from semia import serving

    return [*serving.ServerOptions.on_free_ports().ports.values()]


class SmallDisk:
    """A disk of its own that can be filled up: a tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def leave(self, free: int) -> None:
        """Fill it up but for so many bytes, or to what is on it already."""
        self._filler.unlink(missing_ok=True)
        with self._filler.open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, shutil.disk_usage(self.path).free - free))

    def empty(self) -> None:
        """Take away what fills it."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Eight megabytes; skips where this user may not mount anything."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "semia-test", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a full disk takes a small one, and this user may not mount any")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="session")
def tiny_palette() -> Palette:
    """The classes of `tiny_bundle`."""
    return TINY_PALETTE


@pytest.fixture(scope="session")
def server_options() -> "Callable[[], serving.ServerOptions]":
    """Makes options of the embedded server on free loopback ports."""
    from semia import serving

    def make() -> serving.ServerOptions:
        return dataclasses.replace(serving.ServerOptions.on_free_ports(), binary="embedded")

    return make


@pytest.fixture(scope="session")
def embedded_triton() -> None:
    """Skips where the embedded Triton's wheel does not exist."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("nvidia-pytriton, which carries Triton, exists for Linux on x86-64 only")
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("needs the extra serving")
    importlib.metadata.distribution("nvidia-pytriton")  # the extra brings it: its absence is a broken installation


@pytest.fixture(scope="session")
def triton(
    embedded_triton: None,
    tiny_bundle: Path,
    server_options: "Callable[[], serving.ServerOptions]",
    tmp_path_factory: pytest.TempPathFactory,
) -> "Iterator[serving.TritonServer]":
    """A running Triton that serves `tiny_bundle` as "tiny": ``.grpc_url``, ``.repository``."""
    from semia import serving

    repository = tmp_path_factory.mktemp("served") / "model_repository"
    serving.publish(tiny_bundle, repository)
    with serving.TritonServer(repository, server_options()) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: ca.pem signed server.pem, clients.pem signed client.pem (each with a .key); admin.key, other.key."""
    folder = tmp_path_factory.mktemp("certificates")
    authorities = {name: trustme.CA() for name in ("ca", "clients")}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    for subject, signer, identity in (
        ("server", "ca", "127.0.0.1"),
        ("elsewhere", "ca", "triton.example.org"),
        ("client", "clients", "caller@example.org"),
    ):
        issued = authorities[signer].issue_cert(identity)
        issued.private_key_pem.write_to_path(str(folder / f"{subject}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{subject}.pem"))
    for name in ("admin", "other"):
        (folder / f"{name}.key").write_text(f"{secrets.token_hex(16)}\n")
    return folder


@pytest.fixture(scope="session")
def locked_triton(
    embedded_triton: None,
    tiny_bundle: Path,
    server_options: "Callable[[], serving.ServerOptions]",
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> "Iterator[serving.TritonServer]":
    """As `triton`, with mutual TLS and an admin key, from `certificates`."""
    from semia import serving

    repository = tmp_path_factory.mktemp("locked") / "model_repository"
    serving.publish(tiny_bundle, repository)
    tls = serving.ServerTls(certificates / "server.pem", certificates / "server.key", certificates / "clients.pem")
    options = dataclasses.replace(server_options(), tls=tls, admin_key_file=certificates / "admin.key")
    with serving.TritonServer(repository, options) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny layers are faster on one thread, and the machine's other core is the server's."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def layout(box_left: int) -> NDArray[np.uint8]:
    """Sky over grass, with a box standing on it."""
    ids = np.zeros((SCENE_HEIGHT, SCENE_WIDTH), dtype=np.uint8)
    ids[28:] = 1
    ids[14:34, box_left : box_left + 16] = 2
    return ids


@pytest.fixture(scope="session")
def scene() -> Scene:
    labels = layout(8)
    texture = np.random.default_rng(0).integers(-20, 20, (SCENE_HEIGHT, SCENE_WIDTH, 3))
    colors = np.array([[120, 180, 230], [60, 140, 50], [180, 70, 40]])
    image = (colors[labels] + texture).clip(0, 255).astype(np.uint8)
    return Scene("tiny", image, labels, SCENE_PALETTE, {"moved": layout(36)})


@pytest.fixture(scope="session")
def settings() -> "TrainingSettings":
    from semia.training.settings import TrainingSettings

    return TrainingSettings(
        preset="tiny",
        iterations=6,
        generator_width=4,
        discriminator_width=4,
        segmentation_width=4,
        generator_steps=2,
        reconstruction_every=3,
        progressive_iterations=2,
        constant_iterations=3,
        mixed_precision=False,
    )


@pytest.fixture(scope="session")
def tensors(scene: Scene) -> "SceneTensors":
    import torch

    from semia.training.tensors import SceneTensors

    return SceneTensors.from_scene(scene, 8, torch.device("cpu"))


@pytest.fixture
def scene_folder(tmp_path: Path, scene: Scene) -> Path:
    """The scene as a user's folder, colors in RGB files."""
    folder = tmp_path / "Tiny Scene"
    (folder / "cond").mkdir(parents=True)
    Image.fromarray(scene.image).save(folder / "img.png")
    Image.fromarray(SCENE_PALETTE.render(scene.labels)).save(folder / "label.png")
    Image.fromarray(SCENE_PALETTE.render(scene.targets["moved"])).save(folder / "cond" / "moved.png")
    return folder


def field_layout(*corners: tuple[int, int]) -> NDArray[np.uint8]:
    """Sky over grass on 96x128, with a box of 32x24 at every top left corner."""
    ids = np.zeros((96, 128), dtype=np.uint8)
    ids[56:] = 1
    for top, left in corners:
        ids[top : top + 32, left : left + 24] = 2
    return ids


@pytest.fixture(scope="session")
def field() -> Callable[..., NDArray[np.uint8]]:
    """`field_layout`: layouts of `field_scene`."""
    return field_layout


@pytest.fixture(scope="session")
def field_scene() -> Scene:
    """A scene for copying: the box can move. Its palette has a class that the photograph lacks."""
    labels = field_layout((40, 24))
    texture = np.random.default_rng(0).integers(-20, 20, (96, 128, 3))
    colors = np.array([[120, 180, 230], [60, 140, 50], [180, 70, 40]])
    image = (colors[labels] + texture).clip(0, 255).astype(np.uint8)
    palette = Palette((*SCENE_PALETTE.colors, (255, 255, 0)), ("sky", "grass", "box", "sun"))
    return Scene("field", image, labels, palette, {"moved": field_layout((44, 77))})


@pytest.fixture(scope="session")
def copying_settings() -> "CopyingSettings":
    from semia.training.copying.settings import CopyingSettings

    return CopyingSettings()


@pytest.fixture(scope="session")
def field_tensors(field_scene: Scene) -> "SceneTensors":
    import torch

    from semia.training.tensors import SceneTensors

    return SceneTensors.from_scene(field_scene, 8, torch.device("cpu"))


@pytest.fixture(scope="session")
def copying(field_tensors: "SceneTensors", copying_settings: "CopyingSettings") -> "CopyingGenerator":
    """A generator that copies `field_scene`, prepared; shared, so do not change it."""
    from semia.training.copying.generator import CopyingGenerator

    generator = CopyingGenerator(copying_settings, field_tensors).eval()
    generator.prepare()
    return generator
