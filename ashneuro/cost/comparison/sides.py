"""The networks of one comparison, and their estimates, each made once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.estimate import estimate
from ashneuro.cost.own.network import OwnAnn
from ashneuro.cost.processor import precisions, unpriced
from ashneuro.cost.profile import HardwareProfile
from ashneuro.cost.terms import NATIVE, CostEstimate
from ashneuro.cost.workload import Workload


@dataclass(frozen=True, eq=False)
class OtherNetwork:
    """A further network in a comparison: another run, or one without an abstract encoder.

    Args:
        name: name of the network, shown as it is.
        workload: counts of its host part and deployed part.
        metric: task metric in words.
        accuracy: accuracy on the data of the comparison; ``None``: not measured there.
        precision: of its deployed part, or of the ANN in its place: ``"intB"``; the host has int8.
    """

    name: str
    workload: Workload
    metric: str = ""
    accuracy: Accuracy | None = None
    precision: str = "int8"


@dataclass(frozen=True, eq=False)
class Side:
    """A network of a comparison, split into its host part and its deployed part."""

    role: Role
    host: Workload
    deployed: Workload
    metric: str = ""
    network: str = ""
    accuracy: Accuracy | None = None
    precision: str = "int8"

    @classmethod
    def of(
        cls, role: Role, workload: Workload, metric: str = "", network: str = "", accuracy: Accuracy | None = None
    ) -> Side:
        """Split a workload into its parts."""
        return cls(role, workload.part("host"), workload.part("deployed"), metric, network, accuracy)

    @property
    def spiking(self) -> bool:
        """True if the network has spiking layers."""
        return any(layer.kind == "snn" for layer in self.deployed.layers)


class Estimates:
    """Estimates that one comparison needs, each made once.

    Args:
        on_chips: estimates of the spiking part that the caller has, by name of the chip's profile.
    """

    def __init__(self, on_chips: Mapping[str, CostEstimate]) -> None:
        self._on_chips = on_chips
        # Keyed by id(): workloads and profiles hold dicts, so no hash; both outlive this object.
        self._made: dict[tuple[int, int, str], CostEstimate] = {}

    def of(self, part: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
        """Return the estimate on a node or machine; without energies if a machine has no price."""
        if profile.kind != "asic" and precision not in precisions(profile):
            return unpriced(part, profile, precision)
        return self.priced(part, profile, precision)

    def priced(self, part: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
        """Return the estimate.

        Raises:
            ProfileError: the profile cannot price this part at this precision.
        """
        key = id(part), id(profile), precision
        if key not in self._made:
            self._made[key] = estimate(part, profile, precision)
        return self._made[key]

    def on_chip(self, part: Workload, chip: HardwareProfile) -> CostEstimate:
        """Return the estimate on a neuromorphic chip: the caller's, or one without a placement."""
        given = self._on_chips.get(chip.name)
        return self.unplaced(part, chip) if given is None else given

    def unplaced(self, part: Workload, chip: HardwareProfile) -> CostEstimate:
        """Return the estimate on a neuromorphic chip without a placement, hence without hops."""
        return self.priced(part, chip, NATIVE)


@dataclass(frozen=True, eq=False)
class Sides:
    """The networks of one comparison.

    Args:
        spiking: the hybrid, or the SNN if the host does nothing.
        twin: the ANN of the same topology.
        low_bit: the twin with as many levels as a neuron can send; ``None`` from 8 bits on.
        low_bit_precision: ``"intB"`` with B = ⌈log2(T + 1)⌉, or the bits of a message.
        zero_skipping: the twin on an accelerator that skips zero activations; ``None`` where these
            were not observed.
        own: the user's own ANN, and the same where zero activations are skipped.
        others: further networks.
        estimates: estimates made so far.
    """

    spiking: Side
    twin: Side
    low_bit: Side | None
    low_bit_precision: str
    zero_skipping: Side | None
    own: tuple[Side, ...]
    others: tuple[Side, ...]
    estimates: Estimates

    @classmethod
    def of(
        cls,
        hybrid: Workload,
        twin: Workload,
        others: Iterable[OtherNetwork],
        metrics: Mapping[Role, str],
        estimates: Mapping[str, CostEstimate],
        own: OwnAnn | None = None,
        accuracies: Mapping[Role, Accuracy] | None = None,
    ) -> Sides:
        """Return the networks; arguments as of `ashneuro.cost.compare.compare`."""
        known = accuracies or {}
        ours = Role.HYBRID if hybrid.part("host").layers else Role.SNN
        spiking = Side.of(ours, hybrid, metrics.get(Role.HYBRID, ""), accuracy=known.get(Role.HYBRID))
        full = Side.of(Role.ANN_TWIN, twin, metrics.get(Role.ANN_TWIN, ""), accuracy=known.get(Role.ANN_TWIN))
        bits = twin_bits(hybrid.timesteps, max((layer.message_bits for layer in hybrid.layers), default=0))
        low_bit = replace(
            full,
            role=Role.LOW_BIT_TWIN,
            metric=metrics.get(Role.LOW_BIT_TWIN, ""),
            accuracy=known.get(Role.LOW_BIT_TWIN),
        )
        further = tuple(
            replace(
                Side.of(Role.OTHER, other.workload, other.metric, other.name, other.accuracy), precision=other.precision
            )
            for other in others
        )
        return cls(
            spiking,
            full,
            low_bit if bits < 8 else None,
            f"int{bits}",
            _zero_skipping(full),
            _own(own) if own is not None else (),
            further,
            Estimates(estimates),
        )


def twin_bits(timesteps: int, payload: int) -> int:
    """Return the bits of the low-bit twin: those of a spike count 0 … T, or of a message."""
    return max(math.ceil(math.log2(timesteps + 1)), payload)


def _own(own: OwnAnn) -> tuple[Side, ...]:
    """Return the user's ANN, and the same where zeros are skipped, if any layer's were measured.

    Layers whose zeros were not measured keep all their products.
    """
    side = Side.of(Role.OWN_ANN, own.workload, network=f"{own.name} (your ANN)")
    measured = any(layer.effective_macs is not None for layer in own.workload.layers)
    return (side, _skipping(side, Role.OWN_ZERO_SKIPPING)) if measured else (side,)


def _zero_skipping(twin: Side) -> Side | None:
    """Return the zero-skipping twin, or ``None`` where activations were not observed."""
    if any(layer.effective_macs is None for layer in twin.deployed.layers):
        return None
    return _skipping(twin, Role.ZERO_SKIPPING_TWIN)


def _skipping(side: Side, role: Role) -> Side:
    layers = (
        replace(layer, dense_macs=layer.effective_macs) if layer.effective_macs is not None else layer
        for layer in side.deployed.layers
    )
    # Skipping zeros changes the price, not the result.
    return replace(side, role=role, deployed=replace(side.deployed, layers=tuple(layers)))
