"""What importing the client costs, and what it offers."""

import subprocess
import sys
import time

from semia import client

FORBIDDEN = {"torch", "onnx", "onnxruntime", "typer", "rich"}
OTHER_ROOMS = {"semia.serving", "semia.training", "semia.export"}


def test_import_pulls_in_no_other_room_and_nothing_heavy() -> None:
    program = "import sys, semia.client; print('\\n'.join(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    packages = {name.partition(".")[0] for name in modules.split()}
    assert "tritonclient" in packages
    assert packages & FORBIDDEN == set()
    assert OTHER_ROOMS.isdisjoint(modules.split())


def test_import_takes_well_under_a_second() -> None:
    program = "import time; start = time.process_time(); import semia.client; print(time.process_time() - start)"
    # Of three, the fastest: the first may compile bytecode. Processor time, because tests share their cores.
    costs = [
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(costs) < 1.0


def test_everything_public_is_exported() -> None:
    errors = {name for name, value in vars(client.errors).items() if isinstance(value, type) and name != "object"}
    own_errors = {name for name in errors if getattr(client.errors, name).__module__ == "semia.client.errors"}
    assert own_errors <= set(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_every_error_of_the_client_is_a_client_error() -> None:
    for name in client.__all__:
        value = getattr(client, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, client.ClientError)
            assert value.__name__ in str(client.errors.__doc__)


def test_a_client_is_made_without_a_server() -> None:
    start = time.monotonic()
    with client.SynthesisClient("192.0.2.1:8001"):
        pass
    assert time.monotonic() - start < 1.0
