"""What a Ray of this machine alone has to be told before it is imported."""

import os

LOCAL = "local"
"""The address that starts a Ray for this call, on loopback."""

LOCAL_ENVIRONMENT = {
    # Otherwise it listens, without a password, on every address: single machines are what this says Windows runs.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anyone
}


def prepare_environment(address: str) -> None:
    """Set the environment for an address; to be called before `semia.training.parallel.ray_engine` is imported.

    A cluster is left as those who run it set it up.
    """
    if address == LOCAL:
        os.environ.update(LOCAL_ENVIRONMENT)
