import torch
import torch.nn.functional as F

from semia.training.published.layers import even_out_phases


def test_evened_out_a_transposed_convolution_keeps_flat_areas_flat() -> None:
    torch.manual_seed(0)
    kernels, flat = torch.randn(6, 3, 4, 4), torch.randn(1, 6, 1, 1).expand(-1, -1, 8, 8)

    def unevenness() -> float:
        inside = F.conv_transpose2d(flat, kernels, stride=2, padding=1)[:, :, 2:-2, 2:-2]
        return (inside.amax((2, 3)) - inside.amin((2, 3))).max().item()

    assert unevenness() > 1
    even_out_phases(kernels)
    assert unevenness() < 1e-5


def test_even_phases_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    kernels = torch.randn(6, 3, 4, 4)
    even_out_phases(kernels)
    again = kernels.clone()
    even_out_phases(again)
    assert torch.allclose(again, kernels, atol=1e-6)
