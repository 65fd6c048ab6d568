import torch
import torch.nn.functional as F

from semia.training.published.networks import Discriminator, SegmentationNetwork
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


def test_scores_and_features_have_the_pyramids_sizes() -> None:
    judgement = Discriminator(8)(torch.rand(2, 3, 48, 64))
    assert [tuple(score.shape) for score in judgement.scores] == [(2, 1, 12, 16), (2, 1, 6, 8)]
    assert [tuple(feature.shape) for feature in judgement.features] == [(2, 16, 12, 16), (2, 32, 6, 8)]


def test_images_of_a_batch_are_judged_apart() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(8).eval()
    real, fake = torch.rand(1, 3, 48, 64), torch.rand(1, 3, 48, 64)
    together = discriminator(torch.cat([real, fake])).scores
    for index, image in enumerate((real, fake)):
        for both, alone in zip(together, discriminator(image).scores, strict=True):
            assert torch.allclose(both[index : index + 1], alone, rtol=1e-3, atol=1e-3)


def test_odd_sizes_are_taken() -> None:
    scores = Discriminator(4)(torch.rand(1, 3, 44, 60)).scores
    assert [tuple(score.shape[2:]) for score in scores] == [(11, 15), (6, 8)]


def test_it_learns_the_labels_of_a_photograph(tensors: SceneTensors, scene: Scene) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.l1_loss(network(tensors.image), tensors.labels)
        torch.autograd.backward(loss)
        optimizer.step()
    predicted = network.eval()(tensors.image)
    distances = torch.stack([(predicted - color.view(1, 3, 1, 1)).square().sum(1) for color in tensors.palette])
    right = (distances.argmin(0) == tensors.class_ids).float().mean()
    assert right > 0.9


def test_its_pyramid_is_projected_as_a_whole() -> None:
    network = SegmentationNetwork(4).eval()
    image = torch.rand(1, 3, 40, 48)
    branches = [network.point(image), network.near(image), network.far(image)]
    pooled = network.pooled(image.mean((2, 3), keepdim=True)).expand_as(branches[0])
    pyramid = torch.cat([*branches, pooled], dim=1).relu()
    assert torch.allclose(network(image), network.classify(network.project(pyramid).relu()), atol=1e-5)
