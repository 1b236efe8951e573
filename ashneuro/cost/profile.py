"""Hardware profiles: energy and time per event on one chip, each number with its unit and source.

A profile is a TOML file in ``hardware_profiles/`` or anywhere else; ``hardware_profiles/README.md``
has the format. An unknown number is absent, never 0. Start at `load_profile`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ashneuro.errors import ProfileError
from ashneuro.files import read_toml

DEFAULT_NODE = "cmos45"  # profile of the CMOS node that prices both sides where none is named

UNITS: dict[str, tuple[str, float]] = {
    "fJ": ("energy", 1e-15),
    "pJ": ("energy", 1e-12),
    "nJ": ("energy", 1e-9),
    "µJ": ("energy", 1e-6),
    "mJ": ("energy", 1e-3),
    "J": ("energy", 1.0),
    "ns": ("time", 1e-9),
    "µs": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "s": ("time", 1.0),
    "µW": ("power", 1e-6),
    "mW": ("power", 1e-3),
    "W": ("power", 1.0),
    "Top/s": ("rate", 1e12),
    "GB/s": ("bandwidth", 1e9),
    "bit": ("count", 1.0),
    "1": ("count", 1.0),
}

EVENTS: dict[str, str] = {
    "synop": "one spike at one synapse",
    "neuron_update_active": "one update of a neuron with a non-zero state or input",
    "neuron_update_inactive": "one update of a neuron at rest",
    "synop_dense": "a synop at a synapse stored as a full matrix",
    "synop_sparse": "a synop at a synapse stored as a list",
    "synop_conv": "a synop of a convolution with shared weights",
    "synop_payload_bit": "one payload bit of a graded value at one synapse, besides its synop",
    "spike_out": "generating one spike in the neuron's circuit",
    "axon_out": "sending one spike message from its core",
    "spike_local": "one spike message between cores of a tile",
    "hop_ew": "one spike message over one tile, east or west",
    "hop_ns": "one spike message over one tile, north or south",
    "message_payload_bit": "one payload bit of a message, besides the message",
    "learning_update": "one learning update of a synapse",
    "mac": "one multiply–accumulate, averaged over a measured workload",
    "io_byte": "one byte between host and chip",
    "add_int8": "an 8-bit integer addition",
    "add_int16": "a 16-bit integer addition",
    "add_int32": "a 32-bit integer addition",
    "add_fp16": "a 16-bit floating-point addition",
    "add_fp32": "a 32-bit floating-point addition",
    "mult_int8": "an 8-bit integer product",
    "mult_int32": "a 32-bit integer product",
    "mult_fp16": "a 16-bit floating-point product",
    "mult_fp32": "a 32-bit floating-point product",
    "sram_8kb": "one 64-bit access to 8 KB of SRAM",
    "sram_32kb": "one 64-bit access to 32 KB of SRAM",
    "sram_1mb": "one 64-bit access to 1 MB of SRAM",
    "dram": "one 64-bit access to DRAM",
}

CHECKS = {
    "V": "the primary source was opened",
    "Q": "quoted word for word, with table or page, by a third party; the primary source was not opened",
    "S": "seen as a paraphrase in a secondary source",
    "R": "recalled; not seen in any source",
}

TIMES = (
    "step",
    "barrier",
    "synop",
    "neuron_update_active",
    "neuron_update_inactive",
    "spike_out",
    "axon_out",
    "axon_in",
    "hop_ew",
    "hop_ns",
)

LIMITS = {
    "cores_per_chip": "cores",
    "neurons_per_core": "neurons of one core",
    "neurons_per_chip": "neurons, where cores are not told apart",
    "synapses_per_chip": "synapses, where cores are not told apart",
    "synapse_memory_per_chip": "bits of synaptic memory, where cores are not told apart",
    "synapse_words_per_core": "64-bit words of synaptic memory of one core",
    "synapse_bits": "bits of a stored synapse that is not shared",
    "axon_bits": "bits that every input axon's list of synapses takes besides",
    "shared_weight_bits": "bits of a weight in a convolution's kernel, held once per core",
    "in_axons_per_core": "input axons of one core",
    "out_axons_per_core": "output axons of one core",
    "shared_in_axons": "present where a convolution's inputs share an axon",
    "cores_per_tile": "cores that share a router",
    "tiles_wide": "columns of the mesh of tiles",
    "chips_per_board": "chips of one board",
    "weight_bits": "bits of a weight",
}

INFERENCE = {"core": "what each core in use takes per inference: its reset, spikes and inputs that reach it"}
X86 = {
    "clock": "an x86 core of the chip in use, its clock",
    "code": "the same, running code without a pause",
}
POWERED = {
    "core": "a core in use, whatever it computes",
    "chip": "a chip, whatever it computes, without its cores",
}
USAGE = {"x86_cores": "x86 cores of a chip in use, where nobody says how many"}

TABLES = {
    "energy": "energy",
    "inference": "energy",
    "workload": "energy",
    "time": "time",
    "x86": "power",
    "powered": "power",
    "usage": "count",
    "static": "power",
    "overhead": "power",
    "power": "power",
    "peak": "rate",
    "limits": "count",
}

KEYS: dict[str, Collection[str]] = {
    "energy": EVENTS,
    "inference": INFERENCE,
    "time": TIMES,
    "x86": X86,
    "powered": POWERED,
    "usage": USAGE,
    "limits": LIMITS,
}

Boundary = Literal["op", "core", "chip", "board", "system"]
Basis = Literal["simulated", "measured", "model", "specification"]
Status = Literal["published", "derived", "estimate"]
Check = Literal["V", "Q", "S", "R"]

CLOSED: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


Case = Literal["low", "typical", "high"]
CASES: tuple[Case, ...] = ("low", "typical", "high")


@dataclass(frozen=True)
class Range:
    """A number between bounds, in SI units; ``typical`` is ``None`` where no source has one."""

    low: float
    typical: float | None
    high: float

    def __add__(self, other: Range) -> Range:
        if not isinstance(other, Range):
            return NotImplemented
        # A sum has a centre only if every part has one.
        both = self.typical is not None and other.typical is not None
        typical = self.typical + other.typical if both else None  # type: ignore[operator]
        return Range(self.low + other.low, typical, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        if not isinstance(other, Range):
            other = Range(other, other, other)
        both = self.typical is not None and other.typical is not None
        typical = self.typical * other.typical if both else None  # type: ignore[operator]
        return Range(self.low * other.low, typical, self.high * other.high)

    __rmul__ = __mul__

    @property
    def is_point(self) -> bool:
        """True if no spread is known."""
        return self.low == self.high


@dataclass(frozen=True)
class Source:
    """A source of numbers.

    Args:
        title: authors, title, venue, year.
        link: DOI or address.
        set: name of the set of numbers that it belongs to; numbers of one set may be combined. By
            default each source is its own set.
    """

    title: str
    link: str
    set: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class Quantity:
    """One number of a profile.

    Args:
        unit: one of `UNITS`.
        covers: costs that the number includes.
        boundary: hardware inside it: a circuit operation, the core, the chip's rails, the board,
            the system with its host.
        basis: simulated before silicon, measured, fitted by a model, or a vendor's specification.
        status: published, derived from published numbers, or an estimate by the profile's author.
        check: how the profile's author saw the source; one of `CHECKS`.
        source, locator: key of a `Source`, and table, page or file in it.
        value: the centre; ``None`` where only bounds are known.
        low, high: bounds; ``None`` where the source gives none.
        excludes: costs that the number leaves out.
        includes: further terms of an estimate that are in the number, e.g. ``"neuron update"`` or
            ``"static"``; they are not added again. Of a static power: ``"x86 clock"``,
            ``"x86 code"``.
        fitted_on: measured workloads that the number was fitted on: names of files in
            ``hardware_profiles/measured/``, without ``.toml``. It predicts none of them.
        bounds_from: origin of bounds that are not the source's own.
        bounds_sources: keys of the sources of these bounds.
        conditions: voltage, temperature, workload.
        note: anything else that a reader must know.
    """

    unit: str
    covers: str
    boundary: Boundary
    basis: Basis
    status: Status
    check: Check
    source: str
    locator: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    excludes: str = ""
    includes: tuple[str, ...] = ()
    fitted_on: tuple[str, ...] = ()
    bounds_from: str = ""
    bounds_sources: tuple[str, ...] = ()
    conditions: str = ""
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def range(self) -> Range:
        """The number in SI units; a missing bound is the value itself."""
        factor = UNITS[self.unit][1]
        known = [number for number in (self.low, self.value, self.high) if number is not None]
        low = self.low if self.low is not None else known[0]
        high = self.high if self.high is not None else known[-1]
        return Range(low * factor, None if self.value is None else self.value * factor, high * factor)

    @property
    def citable(self) -> bool:
        """True if estimates use it by default: seen in a source, not the author's own estimate."""
        return self.check != "R" and self.status != "estimate"

    @property
    def headline(self) -> bool:
        """True if a headline may rest on it: its source was opened, and it is no estimate."""
        return self.check == "V" and self.status != "estimate"


@dataclass(frozen=True)
class HardwareProfile:
    """The published numbers of one chip.

    Args:
        schema: version of the file format, 1.
        name, title: short name, and full name.
        kind: ``"neuromorphic"``: energy per synop and neuron update; ``"asic"``: per arithmetic
            operation and memory access; ``"gpu"``, ``"cpu"``: per MAC of a measured workload, or
            from peak rate and power.
        boundary: hardware that its estimates include.
        excludes: costs that its estimates leave out, one phrase each.
        sources: sources by key.
        energy: joules per event, keys of `EVENTS`; all from one set of numbers.
        inference: joules per inference besides events, keys of `INFERENCE`.
        workload: joules of whole measured workloads; for reading, never for estimates.
        time: ``step``: seconds per time step; also seconds per event and of the barrier, for the
            step of a placed network.
        x86: watts of the chip's own x86 cores, keys of `X86`.
        powered: static watts per core in use and per chip, keys of `POWERED`.
        usage: how a network uses the chip where nobody says, keys of `USAGE`.
        static: watts drawn whatever the network does, by boundary.
        overhead: watts added while a network runs, on top of the static power of the same name.
        power: ``tdp`` of a GPU or CPU, watts.
        peak: its operations per second by precision (a MAC is two).
        limits: capacities, keys of `LIMITS`.
        node_nm, voltage_v: process node and supply voltage, where known.
        reads: one paragraph on how to read the numbers.
    """

    schema: Literal[1]
    name: str
    title: str
    kind: Literal["neuromorphic", "asic", "gpu", "cpu"]
    boundary: str
    excludes: tuple[str, ...]
    sources: dict[str, Source]
    energy: dict[str, Quantity] = field(default_factory=dict)
    inference: dict[str, Quantity] = field(default_factory=dict)
    workload: dict[str, Quantity] = field(default_factory=dict)
    time: dict[str, Quantity] = field(default_factory=dict)
    x86: dict[str, Quantity] = field(default_factory=dict)
    powered: dict[str, Quantity] = field(default_factory=dict)
    usage: dict[str, Quantity] = field(default_factory=dict)
    static: dict[str, Quantity] = field(default_factory=dict)
    overhead: dict[str, Quantity] = field(default_factory=dict)
    power: dict[str, Quantity] = field(default_factory=dict)
    peak: dict[str, Quantity] = field(default_factory=dict)
    limits: dict[str, Quantity] = field(default_factory=dict)
    node_nm: float | None = None
    voltage_v: float | None = None
    reads: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Iterate over all numbers with their paths, e.g. ``energy.synop``."""
        return ((f"{table}.{key}", quantity) for table in TABLES for key, quantity in getattr(self, table).items())

    def quantity(self, path: str) -> Quantity | None:
        """Return the number at ``table.key``, or ``None`` where it is unknown."""
        table, _, key = path.partition(".")
        found: Quantity | None = getattr(self, table).get(key)
        return found

    def citable(self, path: str) -> Quantity | None:
        """Return the number at a path if estimates use it by default, else ``None``."""
        quantity = self.quantity(path)
        return quantity if quantity is not None and quantity.citable else None

    def headline(self, paths: Iterable[str]) -> bool:
        """Return True if there are numbers at ``paths``, all of them from opened sources."""
        found = [quantity for path in paths if (quantity := self.quantity(path)) is not None]
        return bool(found) and all(quantity.headline for quantity in found)


def profile_folder() -> Path:
    """Return the folder of the bundled profiles: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "hardware_profiles"
    return inside if inside.is_dir() else package.parent / "hardware_profiles"


def list_profiles() -> dict[str, Path]:
    """Return the files of the bundled profiles by name."""
    return {path.stem: path for path in sorted(profile_folder().glob("*.toml"))}


def load_profile(name: str | Path) -> HardwareProfile:
    """Return a bundled profile by its name, or one from the path of a TOML file.

    Raises:
        ProfileError: there is no such profile, or it is not valid; all faults at once.
    """
    known = list_profiles()
    path = Path(name)
    if str(name) in known:
        path = known[str(name)]
    elif path.suffix != ".toml":
        near = difflib.get_close_matches(str(name), known, n=1)
        raise ProfileError(
            f"there is no hardware profile {str(name)!r}",
            f"known are {', '.join(known) or 'none'}" + (f"; did you mean {near[0]}?" if near else ""),
            "ashneuro profiles list, or give the path of a .toml",
        )
    try:
        values = read_toml(path)
    except OSError as error:
        raise ProfileError(f"cannot read {path}", error.strerror or str(error), "ashneuro profiles list") from error
    except ValueError as error:
        raise ProfileError(
            f"cannot read {path}", f"it is not TOML: {error}", "fix the line that the message names"
        ) from error
    return parse_profile(values, name=str(path))


def load_profiles(names: Iterable[str | Path]) -> list[HardwareProfile]:
    """Return several profiles, without duplicates.

    Raises:
        ProfileError: as in `load_profile`; or two different profiles share a name.
    """
    found: dict[str, HardwareProfile] = {}
    for name in names:
        profile = load_profile(name)
        if found.setdefault(profile.name, profile) != profile:
            raise ProfileError(
                f"two profiles are called {profile.name!r}",
                f"{name} is the second; results are kept by a profile's name",
                f'change `name` in one of the files, e.g. name = "my-{profile.name}"',
            )
    return list(found.values())


def parse_profile(values: Mapping[str, Any], name: str = "profile") -> HardwareProfile:
    """Return ``values`` as a profile.

    Args:
        values: content of a profile's TOML file.
        name: name of the file, for errors.

    Raises:
        ProfileError: a key is unknown or missing, a number lacks source or unit or is out of
            bounds, or the energies are of different sets; all faults at once, each with its path.
    """
    # Not at the top: pydantic is slow to import, and most commands load no profile.
    from pydantic import TypeAdapter, ValidationError

    faults: dict[str, str] = {}
    profile = None
    try:
        profile = TypeAdapter(HardwareProfile).validate_python(dict(values))
    except ValidationError as error:
        for item in error.errors():
            path = ".".join(str(part) for part in item["loc"])
            # pydantic's words for these two would mean little to an author of TOML.
            if item["type"] == "dataclass_type":
                faults[path] = "a bare number or text: give a table with value, unit, source …"
            else:
                if item["type"] == "unexpected_keyword_argument":
                    item["msg"] = "unknown key"
                plain = item["type"] not in ("missing", "extra_forbidden") and not isinstance(item["input"], Mapping)
                faults[path] = item["msg"] + (f" (it is {item['input']!r})" if plain else "")
    # One fault per path: where both find one, the type is the cause.
    for path, fault in _faults(values):
        faults.setdefault(path, fault)
    if faults or profile is None:
        lines = "".join(f"\n  {path}: {fault}" for path, fault in faults.items())
        raise ProfileError(
            f"{name}: {len(faults)} fault(s)", lines, "correct them; hardware_profiles/README.md shows a valid number"
        )
    return profile


def _faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the faults that types do not catch, with their paths: units, sources, bounds, sets."""
    sources = values.get("sources")
    sources = sources if isinstance(sources, Mapping) else {}
    sets: dict[str, list[str]] = {}
    for table, dimension in TABLES.items():
        entries = values.get(table)
        for key, entry in entries.items() if isinstance(entries, Mapping) else ():
            path = f"{table}.{key}"
            keys = KEYS.get(table)
            if keys is not None and key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                what = "event" if table == "energy" else f"{table} number"
                yield (
                    path,
                    f"no such {what}; known are {', '.join(keys)}" + (f" (did you mean {near[0]}?)" if near else ""),
                )
            if not isinstance(entry, Mapping):
                continue
            yield from _number_faults(path, entry, dimension, sources)
            source = entry.get("source")
            if table == "energy" and isinstance(source, str) and source in sources:
                sets.setdefault(_set_of(source, sources), []).append(path)
    static, overhead = (
        table if isinstance(table, Mapping) else {} for table in (values.get("static"), values.get("overhead"))
    )
    for key in (key for key in overhead if key not in static):
        yield f"overhead.{key}", f"it adds to static.{key}, which is missing, so it would be in no total"
    # Sets differ in boundary and in how they were fitted: a sum over two of them means nothing.
    if len(sets) > 1:
        listed = "; ".join(f"{group}: {', '.join(paths)}" for group, paths in sets.items())
        yield "energy", f"numbers of {len(sets)} sets are mixed ({listed}); one profile holds one set"


def _set_of(source: str, sources: Mapping[str, Any]) -> str:
    origin = sources[source]
    group = origin.get("set") if isinstance(origin, Mapping) else ""
    return group if isinstance(group, str) and group else source


def _number_faults(
    path: str, entry: Mapping[str, Any], dimension: str, sources: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    unit = entry.get("unit")
    if isinstance(unit, str) and (unit not in UNITS or UNITS[unit][0] != dimension):
        allowed = ", ".join(name for name, (kind, _) in UNITS.items() if kind == dimension)
        yield f"{path}.unit", f"{unit!r} is not a unit of {dimension}; allowed: {allowed}"
    for text in ("covers", "source", "locator"):
        if entry.get(text) == "":
            yield f"{path}.{text}", "it is empty"
    given = {key: entry[key] for key in ("low", "value", "high") if key in entry}
    numbers = {
        key: number
        for key, number in given.items()
        if isinstance(number, (int, float)) and not isinstance(number, bool)
    }
    for key in given.keys() - numbers.keys():
        yield f"{path}.{key}", f"{given[key]!r} is not a number"
    if not given or ("value" not in given and len(given) < 2):
        yield f"{path}.value", "no number: give value, or low and high; leave an unknown number out altogether"
    for key, number in numbers.items():
        if not number > 0:
            yield f"{path}.{key}", f"{number} is not above 0; an unknown number is left out, never 0"
    # `given` is in the order low, value, high.
    if sorted(numbers.values()) != list(numbers.values()):
        yield (
            path,
            "low ≤ value ≤ high does not hold: " + ", ".join(f"{key} {number}" for key, number in numbers.items()),
        )
    bounds = entry.get("bounds_sources")
    cited = [entry.get("source"), *(bounds if isinstance(bounds, (list, tuple)) else ())]
    for source in cited:
        if isinstance(source, str) and source not in sources:
            yield f"{path}.source", f"{source!r} is not in [sources]"
    if bounds and not entry.get("bounds_from"):
        yield f"{path}.bounds_from", "bounds of another source need the sentence that says so"
