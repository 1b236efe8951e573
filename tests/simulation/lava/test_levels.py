"""Changes of levels in Lava: proofs, and the script of a bundle."""

import pytest

from ashneuro.program.lower import lower
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.proof.certify import certify
from tests.program.test_changes import stream
from tests.program.test_levels import CONTRACT, LAYERS, network
from tests.simulation.lava.test_script import start, write

pytestmark = pytest.mark.lava


@pytest.mark.parametrize(("jump", "threshold"), [(0.0, 0.0), (1.4, 2.0)])
def test_networks_are_proved(jump, threshold):
    graph, x = network(4, jump, threshold), stream(samples=5)
    program = lower(graph, CONTRACT)
    certificate = certify(graph, CONTRACT, {"float": program, "integer": calibrate(program, x).program}, x).certificate
    assert certificate.passed, certificate
    assert certificate.own_processes == dict.fromkeys(LAYERS, "Changes")
    for pair in certificate.required:
        assert all(layer.spikes > 20 for layer in pair.layers)


def test_script_verifies_levels(tmp_path):
    x = stream(samples=3)
    program = lower(network(4, 1.4), CONTRACT)
    write(tmp_path / "bundle", program, calibrate(program, x).program, {"input": x})
    said = start(tmp_path / "bundle", "--verify")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(" 0 differ\n") == 2 * len(program.layers)
