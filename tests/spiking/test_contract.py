import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.spiking.contract import CHOICES, Contract, read_contract


def test_contract_metadata_round_trip():
    written = Contract(
        2e-4, 7, "subtract", 1, "inclusive", "v_reset", "exponential", "per-second", "spikes", "count", 3
    )
    assert read_contract(written.to_metadata()).contract == written
    assert read_contract({key: np.asarray(value) for key, value in written.to_metadata().items()}).contract == written


@pytest.mark.parametrize("name", CHOICES)
def test_invalid_choice_raises(name):
    for value in CHOICES[name]:
        assert getattr(Contract(**{name: value}), name) == value
    with pytest.raises(GraphError, match=f"--{name.replace('_', '-')}"):
        Contract(**{name: "otherwise"})


@pytest.mark.parametrize(
    "field", [{"dt_s": 0.0}, {"dt_s": float("nan")}, {"timesteps": 0}, {"reset_delay": -1}, {"message_limit": 0}]
)
def test_invalid_number_raises(field):
    with pytest.raises(GraphError, match=next(iter(field)).removesuffix("_s")):
        Contract(**field)


def test_decay():
    tau = np.array([1e-3, 2e-3, 1e3])
    np.testing.assert_array_equal(Contract().decay(tau), 1e-3 / tau)
    np.testing.assert_allclose(
        Contract(integration="exponential").decay(tau), [1 - np.exp(-1), 1 - np.exp(-0.5), 1e-6], rtol=1e-6
    )


def test_contracts_written_before_the_comparison_was_a_field_are_strict():
    older = {key: value for key, value in Contract().to_metadata().items() if not key.endswith("comparison")}
    assert read_contract(older).contract.comparison == "strict" and read_contract(older).assumed == ()
    assert "comparison" in read_contract({}).assumed
