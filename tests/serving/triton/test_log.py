"""The line that says why."""

import pytest

from semia.serving.triton.log import last_error


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", None),
        ('I1122 08:05:06.092046 5251 server.cc:1] "hello"\nShared Memory Growth Byte Size: 1048576', None),
        (
            "E1122 08:05:06.092046 5251 model.cc:4] \"failed to load 'a': Internal: boom\\n\\nAt:\\n  x\"\n"
            'E1122 08:05:06.092046 5251 tritonserver.cc:2607] "Internal: failed to load all models"\n'
            'I1122 08:05:06.092046 5251 server.cc:1] "bye"\n',
            "failed to load 'a': Internal: boom",
        ),
        (
            'E1122 08:05:06.089397 5251 server.cc:241] "CudaDriverHelper has not been initialized."\n'
            "tritonserver: error while loading shared libraries: libz.so.1: cannot open\n",
            "tritonserver: error while loading shared libraries: libz.so.1: cannot open",
        ),
        (
            'E1122 08:05:06.089397 5251 model.cc:4] "Poll failed"\n'
            "terminate called after throwing an instance of 'std::invalid_argument'\n"
            "  what():  stol\n",
            "what():  stol",
        ),
        ("| table | error |\n+-------+-------+\nSignal (15) received.\n", None),
    ],
)
def test_the_last_error_that_matters_is_found(log: str, cause: str | None) -> None:
    assert last_error(log) == cause
