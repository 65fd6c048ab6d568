import dataclasses

import pytest
import torch

from semia.training.published.losses import rgb_features
from semia.training.published.trainer import AlternatingTrainer, LabeledImage
from semia.training.settings import PAPER_SHORT, TrainingSettings
from semia.training.tensors import SceneTensors


@pytest.fixture
def trainer(tensors: SceneTensors, settings: TrainingSettings) -> AlternatingTrainer:
    return AlternatingTrainer(tensors, settings, seed=0, patch_features=rgb_features)


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1).clone() for parameter in network.parameters()])


def test_a_sampling_iteration_trains_generator_and_discriminator(trainer: AlternatingTrainer) -> None:
    before = [weights(network) for network in (trainer.generator, trainer.discriminator, trainer.segmentation)]
    terms = trainer.iterate(1, 0.0)
    assert set(terms) == {
        "adversarial", "feature_matching", "alignment", "coherence", "supervision", "discriminator"
    }  # fmt: skip
    after = [weights(network) for network in (trainer.generator, trainer.discriminator, trainer.segmentation)]
    changed = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert changed == [True, True, False]


def test_what_has_no_weight_is_left_out(tensors: SceneTensors, settings: TrainingSettings) -> None:
    weights = dataclasses.replace(settings.weights, alignment=0.0, coherence=0.0, distribution=1.0, gradients=1.0)
    trainer = AlternatingTrainer(tensors, dataclasses.replace(settings, weights=weights), 0, rgb_features)
    assert set(trainer.iterate(1, 0.0)) == {
        "adversarial", "feature_matching", "supervision", "gradients", "distribution", "discriminator"
    }  # fmt: skip


def test_the_distribution_of_changed_places_needs_changed_places(
    tensors: SceneTensors, settings: TrainingSettings
) -> None:
    weights = dataclasses.replace(settings.weights, changed_distribution=1.0)
    settings = dataclasses.replace(settings, weights=weights, swap_probability=0.0)
    losses = []
    for class_ids in (tensors.class_ids, (tensors.class_ids + 1) % 3):
        example = LabeledImage(tensors.image, class_ids, tensors.colors(class_ids))
        trainer = AlternatingTrainer(tensors, settings, 0, rgb_features, [example])
        losses.append(trainer.iterate(1, 0.0)["changed_distribution"])
    assert losses[0] == 0 < losses[1]


def test_examples_are_the_targets_of_sampling_iterations(tensors: SceneTensors, settings: TrainingSettings) -> None:
    class_ids = tensors.class_ids.flip(2)
    example = LabeledImage(tensors.image.flip(3), class_ids, tensors.colors(class_ids))
    settings = dataclasses.replace(settings, swap_probability=0.0)
    trainer = AlternatingTrainer(tensors, settings, 0, rgb_features, [example])
    trainer.iterate(1, 0.5)
    assert torch.equal(trainer.source.image, tensors.image)
    assert torch.equal(trainer.target.image, example.image)
    assert torch.equal(trainer.target.class_ids, class_ids)
    trainer.iterate(settings.reconstruction_every, 0.5)
    assert not torch.equal(trainer.target.image, example.image)


def test_with_plates_targets_are_drawn_from_their_drafts(tensors: SceneTensors, settings: TrainingSettings) -> None:
    class_ids = tensors.class_ids.flip(2)
    example = LabeledImage(tensors.image.flip(3), class_ids, tensors.colors(class_ids))
    plates = torch.randint(0, 256, (3, *tensors.image.shape[1:]), dtype=torch.uint8)
    settings = dataclasses.replace(settings, swap_probability=0.0, class_plates=True)
    trainer = AlternatingTrainer(tensors, settings, 0, rgb_features, [example], plates)
    trainer.iterate(1, 0.5)
    assert torch.equal(trainer.source.image, trainer.generator.image_for(tensors, class_ids))
    assert torch.equal(trainer.source.class_ids, tensors.class_ids)
    finished = trainer.finished_generator().plates
    assert finished is not None
    assert torch.equal(finished, plates)


def test_an_autoencoder_of_the_photograph_to_begin_with_where_asked(
    tensors: SceneTensors, settings: TrainingSettings
) -> None:
    errors = []
    for begins in (False, True):
        wanted = dataclasses.replace(settings, generator_width=16, begin_as_autoencoder=begins)
        trainer = AlternatingTrainer(tensors, wanted, 0, rgb_features)
        with torch.no_grad():
            image = trainer.generator(tensors.image, tensors.labels, tensors.labels).image
        errors.append((image - tensors.image).abs().mean().item())
    assert errors[1] < 0.7 * errors[0]


def test_a_reconstruction_iteration_trains_all_three(trainer: AlternatingTrainer) -> None:
    before = [weights(network) for network in (trainer.generator, trainer.discriminator, trainer.segmentation)]
    terms = trainer.iterate(0, 0.0)
    assert {"reconstruction", "fixed_point", "segmentation"} < set(terms)
    after = [weights(network) for network in (trainer.generator, trainer.discriminator, trainer.segmentation)]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("term", ["alignment", "coherence"])
def test_each_sampling_loss_reaches_the_generator(term: str, tensors: SceneTensors, settings: TrainingSettings) -> None:
    # With every other weight at zero, one generator step can only come from this one.
    others = dict.fromkeys(("adversarial", "feature_matching", "alignment", "coherence", "supervision"), 0.0)
    silent = dataclasses.replace(settings, weights=dataclasses.replace(settings.weights, **others))
    heard = dataclasses.replace(silent, weights=dataclasses.replace(silent.weights, **{term: 1.0}))
    moved = []
    for variant in (silent, heard):
        trainer = AlternatingTrainer(tensors, variant, 0, rgb_features)
        before = weights(trainer.generator)
        trainer.iterate(1, 0.0)
        moved.append((weights(trainer.generator) - before).abs().max().item())
    assert moved[0] == 0
    assert moved[1] > 0


def test_the_seed_decides_every_weight(tensors: SceneTensors, settings: TrainingSettings) -> None:
    runs = []
    for seed in (5, 5, 6):
        trainer = AlternatingTrainer(tensors, settings, seed, rgb_features)
        trainer.iterate(0, 0.0)
        runs.append(weights(trainer.generator))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_calibration_leaves_training_alone(trainer: AlternatingTrainer) -> None:
    trainer.iterate(0, 0.0)
    before = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    calibrated = trainer.finished_generator()
    assert all(torch.equal(value, before[name]) for name, value in trainer.generator.state_dict().items())
    means = [name for name in before if name.endswith("running_mean")]
    assert any(not torch.equal(calibrated.state_dict()[name], before[name]) for name in means)
    assert not calibrated.training


def test_rates_fall_with_the_schedule(tensors: SceneTensors, settings: TrainingSettings) -> None:
    settings = dataclasses.replace(settings, affine_rate_factor=3.0)
    trainer = AlternatingTrainer(tensors, settings, 0, rgb_features)
    trainer.iterate(settings.iterations - 1, 0.9)
    weights, affine = zip(*(optimizer.param_groups for optimizer in trainer.optimizers.values()), strict=True)
    share = settings.rate_share(0.9)
    expected = [0.005 * share, 0.02 * share, 0.005 * share]
    assert [group["lr"] for group in weights] == pytest.approx(expected)
    assert [group["lr"] for group in affine] == pytest.approx([3 * rate for rate in expected])


def test_upsampling_has_even_phases_at_every_step_where_asked(
    tensors: SceneTensors, settings: TrainingSettings
) -> None:
    def unevenness(trainer: AlternatingTrainer) -> float:
        up = trainer.generator.decoder.ups[-1]
        assert isinstance(up, torch.nn.Sequential)
        kernels = up[4].get_parameter("parametrizations.weight.original").detach()
        return (kernels[:, :, ::2].sum((2, 3)) - kernels[:, :, 1::2].sum((2, 3))).abs().max().item()

    trainers = [
        AlternatingTrainer(tensors, dataclasses.replace(settings, even_phases=even), 0, rgb_features)
        for even in (False, True)
    ]
    assert [unevenness(trainer) < 1e-5 for trainer in trainers] == [False, True]
    for trainer in trainers:
        trainer.iterate(0, 0.0)
    assert [unevenness(trainer) < 1e-5 for trainer in trainers] == [False, True]


def learning(settings: TrainingSettings, **changes: object) -> TrainingSettings:
    """The short presets' rates, on reconstruction alone."""
    for name in ("initial_gain", "generator_rate", "affine_rate_factor"):
        changes[name] = getattr(PAPER_SHORT, name)
    short = {"generator_width": 8, "generator_steps": 5, "reconstruction_every": 1}
    return TrainingSettings.from_dict({**settings.with_iterations(30).to_dict(), **short, **changes})


def test_training_learns_the_photograph(tensors: SceneTensors, settings: TrainingSettings) -> None:
    trainer = AlternatingTrainer(tensors, learning(settings), 0, rgb_features)
    first = trainer.iterate(0, 0.0)["reconstruction"]
    for iteration in range(1, 20):
        last = trainer.iterate(iteration, iteration / 30)["reconstruction"]
    assert last < 0.6 * first


def test_mixed_precision_learns_as_full_precision_does(tensors: SceneTensors, settings: TrainingSettings) -> None:
    reached = []
    for mixed in (False, True):
        trainer = AlternatingTrainer(
            tensors, learning(settings, mixed_precision=mixed, generator_width=4, generator_steps=3), 0, rgb_features
        )
        errors = [trainer.iterate(iteration, iteration / 30)["reconstruction"] for iteration in range(8)]
        reached.append(sum(errors[-3:]) / 3)
    assert reached[1] == pytest.approx(reached[0], rel=0.25)
