"""From a scene folder to a run folder, on what `semia.training.scene.load_scene` read.

`semia.training.loop.train` trains the published generator,
`semia.training.copying.preparation.prepare_run` prepares the copying one.
"""
