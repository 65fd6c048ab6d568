from pathlib import Path

import pytest
import torch

from semia.training.errors import SettingsError
from semia.training.published.losses import PatchCoherence, rgb_features
from semia.training.published.pretrained import VGG19Features, load_vgg19, patch_features_from


def torchvision_layout(path: Path) -> Path:
    """Random weights under the names and shapes of torchvision's VGG19, later layers included."""
    torch.manual_seed(0)
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in VGG19Features().state_dict().items()}
    state["features.7.weight"] = torch.zeros(128, 128, 3, 3)
    state["classifier.6.bias"] = torch.zeros(1000)
    torch.save(state, path)
    return path


def test_features_come_from_the_given_weights(tmp_path: Path) -> None:
    network = load_vgg19(torchvision_layout(tmp_path / "vgg19.pth"))
    relu1_1, relu2_1 = network(torch.rand(1, 3, 16, 24))
    assert (tuple(relu1_1.values.shape), relu1_1.patch) == ((1, 64, 16, 24), 3)
    assert (tuple(relu2_1.values.shape), relu2_1.patch) == ((1, 128, 8, 12), 1)
    assert relu1_1.values.min() == 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_patch_coherence_on_its_features_teaches_the_output(tmp_path: Path) -> None:
    network = load_vgg19(torchvision_layout(tmp_path / "vgg19.pth"))
    torch.manual_seed(0)
    source, output = torch.rand(1, 3, 24, 32), torch.rand(1, 3, 24, 32, requires_grad=True)
    ids = torch.zeros(1, 24, 32, dtype=torch.int64)
    loss = PatchCoherence(network, 1, output_patches=64, source_patches=256).to_source(source, ids, ids)
    assert loss(source) < loss(output)
    torch.autograd.backward(loss(output))
    assert output.grad is not None
    assert output.grad.abs().max() > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no VGG19 weights at"):
        load_vgg19(tmp_path / "nowhere.pth")


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(SettingsError, match="torchvision's layout"):
        load_vgg19(tmp_path / "resnet.pth")


class Exploit:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("this must never run",)


def test_code_in_a_weights_file_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Exploit()}, tmp_path / "evil.pth")
    with pytest.raises(SettingsError, match="cannot load"):
        load_vgg19(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"garbage", b"junk\n", b"I1\n."])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "garbage.pth").write_bytes(content)
    with pytest.raises(SettingsError, match=r"garbage\.pth"):
        load_vgg19(tmp_path / "garbage.pth")


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    torch.save({name: torch.zeros(1) for name in VGG19Features().state_dict()}, tmp_path / "other.pth")
    with pytest.raises(SettingsError, match="another network"):
        load_vgg19(tmp_path / "other.pth")


def test_patch_features_are_told_apart(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert patch_features_from(None, cpu) == (rgb_features, "rgb")
    features, name = patch_features_from(torchvision_layout(tmp_path / "vgg19.pth"), cpu)
    assert isinstance(features, VGG19Features)
    assert len(name) == 64
