import torch

from semia.training.published.discriminator import Discriminator


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
