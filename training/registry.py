"""Which generator a run's settings mean: the one place that knows them all."""

from semia.training.base import SceneGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors

# Imports inside the branches: to render with one generator, the other is not loaded.


def new_generator(settings: TrainingSettings | CopyingSettings, scene: SceneTensors) -> SceneGenerator:
    """A generator as the settings want it, neither trained nor prepared, on the scene's device."""
    generator: SceneGenerator
    if isinstance(settings, CopyingSettings):
        from semia.training.copying.generator import CopyingGenerator

        generator = CopyingGenerator(settings, scene)
    else:
        from semia.training.published.generator import Generator

        generator = Generator.from_settings(settings)
    return generator.to(scene.image.device)
