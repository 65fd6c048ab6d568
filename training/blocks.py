"""The building blocks of the generator: every convolution is spectrally normalised (Li et al. 2020, section 3.2)."""

from torch import Tensor, nn

from training.spectral import spectral_norm

LEAK = 0.2
"""Slope of LeakyReLU below zero."""


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Module:
    """A spectrally normalised convolution."""
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=bias))


def base_block(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Reflection padding, convolution without bias, batch norm, LeakyReLU; keeps the size."""
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        conv(in_channels, out_channels, kernel, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAK, inplace=True),
    )


class ResidualBlock(nn.Module):
    """A bottleneck to a quarter of the channels, added to its input; without norms inside the SFT heads."""

    def __init__(self, channels: int, *, norm: bool = True) -> None:
        super().__init__()
        narrow = channels // 4

        def stage(convolution: nn.Module, width: int, *, activate: bool) -> list[nn.Module]:
            norms: list[nn.Module] = [nn.BatchNorm2d(width)] if norm else []
            return [convolution, *norms, *([nn.LeakyReLU(LEAK, inplace=True)] if activate else [])]

        self.body = nn.Sequential(
            *stage(conv(channels, narrow, 1), narrow, activate=True),
            nn.ReflectionPad2d(1),
            *stage(conv(narrow, narrow, 3), narrow, activate=True),
            *stage(conv(narrow, channels, 1), channels, activate=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        residual: Tensor = self.body(x)
        return x + residual


def down_block(channels: int) -> nn.Sequential:
    """``[N, C, H, W]`` to ``[N, 2C, H/2, W/2]``."""
    return nn.Sequential(
        ResidualBlock(channels),
        conv(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(LEAK, inplace=True),
        conv(channels, 2 * channels, 4, stride=2, padding=1),
        nn.BatchNorm2d(2 * channels),
        nn.LeakyReLU(LEAK, inplace=True),
    )


def up_block(channels: int) -> nn.Sequential:
    """``[N, C, H, W]`` to ``[N, C/2, 2H, 2W]``."""
    return nn.Sequential(
        ResidualBlock(channels),
        conv(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(LEAK, inplace=True),
        spectral_norm(nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)),
        nn.BatchNorm2d(channels // 2),
        nn.LeakyReLU(LEAK, inplace=True),
    )


def initialise(module: nn.Module, gain: float) -> None:
    """Xavier initialisation of weights with a gain (0.02 as published), zero biases, norm scales N(1, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            # Behind spectral norm the trainable tensor is the parametrisation's original.
            trainable = dict(layer.named_parameters())
            weight = trainable.get("parametrizations.weight.original", layer.weight)
            nn.init.xavier_normal_(weight, gain=gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
