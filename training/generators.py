"""Which generator and which trainer a run's settings mean: the one place that knows them all."""

from training.interface import SceneGenerator, Trainer
from training.patch_coherence import FeatureMaps, rgb_features
from training.settings import TrainingSettings
from training.tensors import SceneTensors

# Imports inside the branches: to render with one generator, neither a trainer nor the other generator is loaded.


def new_generator(settings: TrainingSettings, scene: SceneTensors) -> SceneGenerator:
    """An untrained generator as the settings want it, on the scene's device."""
    generator: SceneGenerator
    if settings.generator == "copying":
        from training.copying_generator import CopyingGenerator

        generator = CopyingGenerator(settings.copying, scene)
    else:
        from training.generator import Generator

        generator = Generator.from_settings(settings)
    return generator.to(scene.image.device)


def new_trainer(
    settings: TrainingSettings, scene: SceneTensors, seed: int, patch_features: FeatureMaps = rgb_features
) -> Trainer:
    """A trainer at the beginning of a run, on the scene's device.

    Args:
        settings: the run's settings.
        scene: what is learnt.
        seed: of everything random.
        patch_features: what the published generator's patch coherence compares; the copying one has no such loss.
    """
    trainer: Trainer
    if settings.generator == "copying":
        from training.copying_trainer import CopyingTrainer

        trainer = CopyingTrainer(scene, settings, seed)
    else:
        from training.steps import AlternatingTrainer

        trainer = AlternatingTrainer(scene, settings, seed, patch_features)
    return trainer
