"""The networks of a comparison: what each one is, and what it costs on which hardware."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ashneuro.cost.profile import Range
from ashneuro.cost.terms import CostEstimate, total

CASES = ("low", "typical", "high")
ARITHMETIC = ("mac", "synop", "neuron update", "activation")


class Role(Enum):
    """What a network is in a comparison."""

    HYBRID = auto()
    SNN = auto()
    ANN_TWIN = auto()
    LOW_BIT_TWIN = auto()
    ZERO_SKIPPING_TWIN = auto()
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
        precision: arithmetic of the deployed part, or of the ANN in its place.
        host, deployed: estimates of the two parts; no ``host`` when the host does nothing.
        spiking: whether the network has spiking layers.
        machine: profile of the GPU or CPU that computes all that is not on a chip; empty at one node.
        chip: profile of the neuromorphic chip that runs the deployed part, if one does.
        network: name of a network whose role is `Role.OTHER`.
        metric: task metric of the network, in words; empty where none was measured.
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

    @property
    def title(self) -> str:
        """The network in words, e.g. ``"hybrid"`` or ``"ANN twin"``."""
        return self.network or ROLE_WORDS[self.role]

    @property
    def variant(self) -> str:
        """The arithmetic in words: ``"int8"``, ``"3-bit"`` or ``"int8, zero-skipping"``."""
        if self.role is Role.LOW_BIT_TWIN:
            return f"{self.precision.removeprefix('int')}-bit"
        return f"{self.precision}, zero-skipping" if self.role is Role.ZERO_SKIPPING_TWIN else self.precision

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
        """True for an ANN twin in integers: the cheapest of them is the rival in the verdict."""
        twin = self.role in (Role.ANN_TWIN, Role.LOW_BIT_TWIN, Role.ZERO_SKIPPING_TWIN)
        return twin and self.precision.startswith("int")

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
        """Both parts without memory, as most publications count; ``None`` where a profile has no such terms."""
        parts = [part for part in (self.host, self.deployed) if part]
        if any("memory" not in part.by_term() for part in parts):
            return None
        return total(term.energy_j for part in parts for term in part.terms if term.name in ARITHMETIC)


@dataclass(frozen=True)
class Group:
    """Contenders that are shown together.

    Args:
        title: hardware that they share.
        boundary: what is in the numbers.
        comparable: one node, one boundary: a winner may be named.
        note: what a reader must know before comparing.
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
