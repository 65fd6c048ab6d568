"""Running Triton and talking to it."""
