"""From a run folder to a bundle: `semia.export.exporter.export_run`."""
