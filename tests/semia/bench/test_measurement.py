"""How measuring is divided into turns."""

from semia.bench.measurement import ROUNDS, turn_length


def test_turns_make_up_the_calls_and_keep_every_client_busy() -> None:
    assert ROUNDS * turn_length(50, 1) == 50
    assert turn_length(51, 1) * ROUNDS >= 51
    assert turn_length(1, 8) == 16
