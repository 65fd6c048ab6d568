"""From a run folder to a bundle: `export.bundle.export_run`."""
