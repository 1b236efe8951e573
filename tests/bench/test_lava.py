import json

import pytest

from ashneuro.bench.emulator import dense_network
from ashneuro.bench.lava import Schedule, bench_lava
from ashneuro.errors import ConfigError


def test_refuses_too_few_samples_for_a_batch():
    with pytest.raises(ConfigError, match="8 samples in 1 rounds"):
        bench_lava(dense_network(8, sizes=(5, 4), timesteps=3), rounds=1)


@pytest.mark.lava
def test_times_three_schedules_with_equal_spike_counts():
    told = []
    network = dense_network(24, sizes=(12, 10), timesteps=6)
    found = bench_lava(network, rounds=1, naive=2, streamed=6, progress=lambda done, total: told.append((done, total)))
    samples = dict(zip(Schedule, (2, 6, 24), strict=True))
    assert [(way.name, way.samples) for way in found.ways] == [(one.value, count) for one, count in samples.items()]
    assert found.mismatches == 0 and told == [(1, 3), (2, 3), (3, 3)]
    naive, _, batched = (way.per_sample_s.median for way in found.ways)
    assert found.ways[2].gain.median == pytest.approx(naive / batched)
    assert json.loads(json.dumps(found.to_json()))["passed"]
