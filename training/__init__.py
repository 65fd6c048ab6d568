"""From a scene folder to a run folder, on what `training.scene.load_scene` read.

`training.train.train` trains the published generator, `training.preparation.prepare_run` prepares the copying one.
"""
