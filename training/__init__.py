"""From a scene folder to a run folder: `training.train.train` on what `training.scene.load_scene` read."""
