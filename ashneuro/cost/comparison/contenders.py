"""The networks of a comparison: what each one is, and what it costs on which hardware."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.profile import Range
from ashneuro.cost.terms import CostEstimate, total

LOW_BITS = tuple(f"int{bits}" for bits in range(1, 8))
ARITHMETIC = ("mac", "synop", "neuron update", "activation")


class Role(Enum):
    """Role of a network in a comparison.

    ``HYBRID`` has a host part and a spiking part, ``SNN`` no host part. The twins are ANNs of the
    same topology: in the precision of the spiking side, with as many levels as a neuron can spike
    in T steps, and on an accelerator that skips zero activations. ``OWN_ANN`` and
    ``OWN_ZERO_SKIPPING``: the user's own ANN, also on such an accelerator. ``OTHER``: any other
    network.
    """

    HYBRID = auto()
    SNN = auto()
    ANN_TWIN = auto()
    LOW_BIT_TWIN = auto()
    ZERO_SKIPPING_TWIN = auto()
    OWN_ANN = auto()
    OWN_ZERO_SKIPPING = auto()
    OTHER = auto()


# Shown words only: nothing may be decided by them. Other networks are shown by their own names.
ROLE_WORDS: dict[Role, str] = {
    Role.HYBRID: "hybrid",
    Role.SNN: "SNN",
    Role.ANN_TWIN: "ANN twin",
    Role.LOW_BIT_TWIN: "ANN twin",
    Role.ZERO_SKIPPING_TWIN: "ANN twin",
}


@dataclass(frozen=True)
class Contender:
    """One network on one set of hardware, per inference.

    Args:
        role: what the network is.
        precision: arithmetic of the ANN or the deployed part; on a chip, arithmetic of its host.
        host, deployed: estimates of the two parts; ``None`` where a part has no layers.
        spiking: True if the network has spiking layers.
        machine: profile of the GPU or CPU that runs the layers outside the chip; empty on one node.
        chip: profile of the chip that runs the deployed part; empty elsewhere.
        network: name of the network, if it has one of its own: other networks, the user's ANN.
        metric: task metric in words; empty where none was measured.
        accuracy: the accuracy that decides which ANNs do the same job; ``None`` where it was not
            measured on the same data.
    """

    role: Role
    precision: str
    host: CostEstimate | None
    deployed: CostEstimate | None
    spiking: bool
    machine: str = ""
    chip: str = ""
    network: str = ""
    metric: str = ""
    accuracy: Accuracy | None = None

    @property
    def title(self) -> str:
        """Network in words: ``"hybrid"``, ``"ANN twin"``, or its own name."""
        return self.network or ROLE_WORDS[self.role]

    @property
    def variant(self) -> str:
        """Arithmetic in words: ``"int8"``, ``"3-bit"`` or ``"int8, zero-skipping"``."""
        if self.role is Role.LOW_BIT_TWIN or (self.role is Role.OTHER and self.precision in LOW_BITS):
            return f"{self.precision.removeprefix('int')}-bit"
        skips = self.role in (Role.ZERO_SKIPPING_TWIN, Role.OWN_ZERO_SKIPPING)
        return f"{self.precision}, zero-skipping" if skips else self.precision

    @property
    def name(self) -> str:
        """Network, arithmetic and hardware in words, e.g. ``"ANN twin on h100, int8"``."""
        if self.chip and self.host:
            return f"{self.title}: host on {self.machine} ({self.precision}), deployed on {self.chip}"
        if self.chip:
            return f"deployed part on {self.chip}"
        return f"{self.title} on {self.machine}, {self.variant}" if self.machine else f"{self.title}, {self.variant}"

    @property
    def is_integer_twin(self) -> bool:
        """True for an ANN twin in integers; the verdict names the cheapest of these."""
        twin = self.role in (Role.ANN_TWIN, Role.LOW_BIT_TWIN, Role.ZERO_SKIPPING_TWIN)
        return twin and self.precision.startswith("int")

    @property
    def is_measured_ann(self) -> bool:
        """True for another ANN in integers whose accuracy is known."""
        return self.role is Role.OTHER and not self.spiking and self.accuracy is not None

    @property
    def host_j(self) -> Range | None:
        """Dynamic energy of the host part."""
        return self.host.dynamic_j if self.host else Range(0.0, 0.0, 0.0)

    @property
    def deployed_j(self) -> Range | None:
        """Dynamic energy of the deployed part, or of the ANN in its place."""
        return self.deployed.dynamic_j if self.deployed else Range(0.0, 0.0, 0.0)

    @property
    def total_j(self) -> Range | None:
        """Dynamic energy of both parts; ``None`` where one of them is not estimable."""
        return None if self.host_j is None or self.deployed_j is None else self.host_j + self.deployed_j

    @property
    def arithmetic_j(self) -> Range | None:
        """Arithmetic of both parts without memory; ``None`` where a profile cannot separate it."""
        parts = [part for part in (self.host, self.deployed) if part]
        if any("memory" not in part.by_term() for part in parts):
            return None
        return total(term.energy_j for part in parts for term in part.terms if term.name in ARITHMETIC)


@dataclass(frozen=True)
class Group:
    """Contenders that are shown together.

    Args:
        title: hardware that they share.
        boundary: hardware that the numbers include.
        comparable: True on one node and boundary, where a winner may be named.
        note: caveats for the reader.
    """

    title: str
    boundary: str
    comparable: bool
    contenders: tuple[Contender, ...]
    note: str = ""

    def find(self, role: Role, precision: str) -> Contender:
        """Return the first contender in this role and precision.

        Raises:
            StopIteration: there is none.
        """
        return next(who for who in self.contenders if who.role is role and who.precision == precision)
