"""How measuring is divided into turns."""

from semia.bench.measurement import count_rounds, turn_length


def test_turns_make_up_the_calls_and_keep_every_client_busy() -> None:
    assert count_rounds(1) * turn_length(50, 1) == 50
    assert count_rounds(1) * turn_length(51, 1) >= 51
    assert turn_length(1, 8) == 16
    assert count_rounds(8) * turn_length(300, 8) == 300
