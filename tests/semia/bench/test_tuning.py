"""The choice of instances and threads."""

import pytest

from semia.bench.tuning import Candidate, candidates, choose
from semia.serving import ServingSettings


def test_candidates_use_the_cores_and_are_all_different() -> None:
    for cores in (1, 2, 16):
        found = candidates(cores)
        assert len(set(found)) == len(found)
        assert found[0] == ServingSettings(instances=1, threads=cores)
        assert sum(not each.batching for each in found) == 1
    assert ServingSettings(instances=2, threads=8) in candidates(16)


@pytest.mark.parametrize(("slower", "chosen"), [(1.05, 2), (1.5, 1)])
def test_throughput_counts_unless_a_lone_client_pays_for_it(slower: float, chosen: int) -> None:
    one = Candidate(ServingSettings(instances=1, threads=2), 20.0, 50.0)
    two = Candidate(ServingSettings(instances=2, threads=1), 20.0 * slower, 60.0)
    settings = choose([one, two])
    assert settings.instances == chosen
    assert settings.reason is not None
    for text in ("1 instance of 2 threads: 20.0 ms, 50.0 pictures/s", "2 instances of 1 thread:", "60.0 pictures/s"):
        assert text in settings.reason
