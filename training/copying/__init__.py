"""The copying generator: every pixel is copied from where the photograph looks and is labelled alike."""
