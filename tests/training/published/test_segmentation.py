import torch
import torch.nn.functional as F

from semia.training.published.segmentation import SegmentationNetwork
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


def test_it_learns_the_labels_of_a_photograph(tensors: SceneTensors, scene: Scene) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(8)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        loss = F.l1_loss(network(tensors.image), tensors.labels)
        torch.autograd.backward(loss)
        optimiser.step()
    predicted = network.eval()(tensors.image)
    distances = torch.stack([(predicted - colour.view(1, 3, 1, 1)).square().sum(1) for colour in tensors.palette])
    right = (distances.argmin(0) == tensors.class_ids).float().mean()
    assert right > 0.9


def test_its_pyramid_is_projected_as_a_whole() -> None:
    network = SegmentationNetwork(4).eval()
    image = torch.rand(1, 3, 40, 48)
    branches = [network.point(image), network.near(image), network.far(image)]
    pooled = network.pooled(image.mean((2, 3), keepdim=True)).expand_as(branches[0])
    pyramid = torch.cat([*branches, pooled], dim=1).relu()
    assert torch.allclose(network(image), network.classify(network.project(pyramid).relu()), atol=1e-5)
