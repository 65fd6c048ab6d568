"""Training many scenes: processes of this machine, or a Ray cluster."""
