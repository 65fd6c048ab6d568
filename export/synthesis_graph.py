"""The synthesis graph: label ids in, pixels out, all that depends on the photograph alone computed beforehand."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.faster_layers import with_faster_layers
from export.layout_agreement import LayoutAgreement
from training.generator import Generator
from training.pixels import colours_from_ids, pixels_from_tensor
from training.stages import stage
from training.tensors import SceneTensors, edge_indices


def without_training_parts(generator: Generator) -> Generator:
    """A copy for inference: spectral norms resolved into weights, batch norms folded into convolutions."""
    # Built anew: a deep copy would share the parametrised classes, and removing them would break the original.
    folded = Generator(generator.width, generator.depth, generator.ratio_limit).eval()
    folded.load_state_dict(generator.state_dict())
    for module in folded.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    for module in folded.modules():
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
    return folded.requires_grad_(False)


def _fold_batch_norms(sequence: nn.Sequential) -> None:
    layers = list(sequence)
    for index, layer in enumerate(layers[1:], start=1):
        before = layers[index - 1]
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, (nn.Conv2d, nn.ConvTranspose2d)):
            sequence[index - 1] = fuse_conv_bn_eval(before, layer, transpose=isinstance(before, nn.ConvTranspose2d))
            sequence[index] = nn.Identity()


class SynthesisGraph(nn.Module):
    """A generator bound to its scene; exported as it stands."""

    palette: Tensor
    rows: Tensor
    columns: Tensor
    image_features: Tensor

    def __init__(self, generator: Generator, scene: SceneTensors) -> None:
        super().__init__()
        folded = without_training_parts(generator)
        self.levels = folded.depth
        self.canvas = scene.canvas
        with torch.no_grad():
            # From the generator itself: these are the ratio's denominators. Where one is almost 0, folded norms,
            # which round differently, would make another ratio of it. (For numerators, see `LayoutAgreement`.)
            source_features = generator.eval().label_encoder(scene.labels)
            image_features = folded.image_encoder.unmodulated(scene.image)
        self.generator = with_faster_layers(folded)
        self.layout_agreement = LayoutAgreement(scene.class_ids)
        self.register_buffer("palette", scene.palette)
        self.register_buffer("rows", edge_indices(scene.canvas.height, scene.multiple))
        self.register_buffer("columns", edge_indices(scene.canvas.width, scene.multiple))
        self.register_buffer("image_features", image_features)
        for level, features in enumerate(source_features):
            self.register_buffer(f"source_features_{level}", features)

    def forward(self, target_labels: Tensor) -> Tensor:
        """Class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""
        with stage("layout"):
            padded = target_labels.long().index_select(1, self.rows).index_select(2, self.columns)
            colours = colours_from_ids(padded, self.palette)
        with stage("label encoder"):
            source_features = [self.get_buffer(f"source_features_{level}") for level in range(self.levels)]
            encoded = self.generator.label_encoder(colours)
            target_features = self.layout_agreement(padded, source_features, encoded)
        with stage("feature translation"):
            translation = self.generator.translate(source_features, target_features)
        with stage("image encoder"):
            code = self.generator.image_encoder.continue_from(self.image_features, translation)
        with stage("decoder"):
            image = self.generator.decoder(code, translation)
        with stage("pixels"):
            return pixels_from_tensor(image[:, :, : self.canvas.height, : self.canvas.width])
