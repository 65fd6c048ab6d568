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


def test_frozen_it_judges_as_in_inference_mode() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(8)
    network(torch.rand(1, 3, 40, 48))  # running statistics that are not those of a fresh norm
    frozen = network.frozen()
    images = [torch.rand(1, 3, 40, 48).requires_grad_() for _ in range(2)]
    images[1].data = images[0].detach().clone()
    outputs = [frozen(images[0]), network.eval()(images[1])]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    assert images[0].grad is not None
    assert images[1].grad is not None
    assert torch.allclose(images[0].grad, images[1].grad, rtol=1e-3, atol=1e-5)


def test_frozen_it_does_not_follow_later_steps() -> None:
    network = SegmentationNetwork(4)
    frozen = network.frozen()
    image = torch.rand(1, 3, 40, 48)
    before = frozen(image)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert torch.equal(frozen(image), before)
    assert not before.requires_grad
