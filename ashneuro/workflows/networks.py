"""Open what a user names: a run, a bundle, a NIR graph of anyone's, or a lava-dl network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast

from ashneuro.arrays import load_arrays
from ashneuro.config import presets
from ashneuro.display import Brief
from ashneuro.errors import AshneuroError, ConfigError, DataError, need
from ashneuro.files import reason_of
from ashneuro.program.assumption import Assumptions
from ashneuro.program.bundle import Bundle, is_bundle, read_bundle, records_assumptions
from ashneuro.program.netx.file import NetxReading
from ashneuro.program.netx.read import is_netx, read_netx, reading_of
from ashneuro.program.nir_file import load_graph
from ashneuro.program.rules.open_fields import DEPENDS, assumptions_of, matching
from ashneuro.program.source import Source
from ashneuro.program.wiring import Wiring, wire
from ashneuro.spiking.contract import Contract, ReadContract, contract_option, read_contract

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.program.program import Program
    from ashneuro.program.rules.finding import Findings
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.run import Graph
    from ashneuro.training.checkpoint import Run
    from ashneuro.workflows.export import Exported

Kind = Literal["run", "bundle", "nir", "netx"]

Overrides = Mapping[str, Any]
"""Fields of `Contract` that win over what a file says, or of `NetxReading`; ``None``: the file
decides."""


@dataclass(frozen=True, eq=False, repr=False)
class Network(Brief):
    """A network that can be checked, lowered, exported, simulated and priced, whoever trained it.

    Args:
        name: its file's name without suffix, or the run's.
        path: the file or run it was read from; ``None``: it was made in memory.
        graph: the NIR graph, sound or not; ``None``: the network is a lava-dl file, integers from
            the start.
        contract_read: the contract that the graph is read with, and which of its fields were
            assumed.
        run: the run that the graph is the spiking part of.
        reading: choices that a lava-dl file leaves open.
        source: comparison with the module that the graph came from.
        sample: inputs (T, B, *shape) that the module was read with; they are the default wherever
            inputs are needed.
    """

    name: str
    path: Path | None
    graph: nir.NIRGraph | None = None
    contract_read: ReadContract | None = None
    run: Run | None = None
    reading: NetxReading = NetxReading()
    source: Source | None = None
    sample: NDArray[np.generic] | None = None

    @property
    def is_netx(self) -> bool:
        """True for a lava-dl network."""
        return self.graph is None

    @property
    def contract(self) -> Contract:
        """The contract of a NIR graph."""
        assert self.contract_read is not None, "a lava-dl network has no contract"
        return self.contract_read.contract

    @cached_property
    def wiring(self) -> Wiring:
        """The graph's wiring, made once."""
        assert self.graph is not None, "a lava-dl network has no graph"
        return wire(self.graph)

    @cached_property
    def assumptions(self) -> Assumptions:
        """Fields that the source leaves open, and the values taken."""
        if self.contract_read is None:
            return self.program.assumptions
        return assumptions_of(self.wiring, self.contract_read)

    @cached_property
    def program(self) -> Program:
        """The float program of a graph, or the integer program of a lava-dl file.

        Raises:
            GraphError: the graph cannot be lowered; every reason at once.
        """
        if self.graph is None:
            assert self.path is not None
            return read_netx(self.path, self.reading)
        return self.simulable.program

    @cached_property
    def simulable(self) -> Graph:
        """A NIR graph as `ashneuro.simulation.run.simulate` takes it."""
        from ashneuro.simulation.run import Graph

        return Graph(self.wiring, self.contract, self.assumptions)

    def check(self, target: Literal["lava", "nir", "sanafe"] = "lava", **options: Any) -> Findings:
        """Return the findings of `ashneuro.check` on this network, with its ``options``."""
        from ashneuro.workflows.check import check

        return check(self, target, **options)

    def export(self, out: str | Path | None = None, **options: Any) -> Exported:
        """Write and prove a bundle by `ashneuro.export`, with its ``options``."""
        from ashneuro.workflows.export import export

        return export(self, out, **options)

    def simulate(self, inputs: Any = None, **options: Any) -> SpikeRecord:
        """Return the spikes by `ashneuro.simulate`, with its ``options``."""
        from ashneuro.workflows.simulate import simulate

        return simulate(self, inputs, **options)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs that take samples, in the order of the graph."""
        if self.graph is None:
            return [port.name for port in self.program.fed_inputs]
        return self.wiring.named("input")


def read(source: str | Path | nir.NIRGraph, **contract: Any) -> Network | Bundle:
    """Return the bundle at a path, or the network of a run, a file or a graph in memory.

    Args:
        source: path of a run, a bundle, a ``.nir`` or a lava-dl ``.net`` file; or a NIR graph.
        contract: fields of `Contract` that win over the source's, e.g. ``dt_s=1e-3``. With them a
            bundle counts as the graph that it carries. A lava-dl file takes ``comparison`` and
            ``input_shape=(C, H, W)`` alone, which it leaves open.

    Raises:
        AshneuroError: there is no such file, or it cannot be read.
        ConfigError: a field is given that no contract has, or that a lava-dl file does not leave
            open.
    """
    given = {name: value for name, value in contract.items() if value is not None}
    if isinstance(source, str | Path) and not given and kind_of(Path(source)) == "bundle":
        return read_bundle(source)
    return open_network(source, given)


def open_network(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run, overrides: Overrides | None = None
) -> Network:
    """Return the network of a run, a bundle, a file or a graph in memory.

    Args:
        source: a bundle counts as the graph or the lava-dl file that it carries.
        overrides: contract fields that win over the source's.

    Raises:
        AshneuroError: there is no such file, or it cannot be read.
        ConfigError: the source is none of these, or a field is overridden that it does not leave
            open or that no contract has.
    """
    from ashneuro.program.bundle import NETWORK, NETX

    overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
    _require_fields(overrides)
    if isinstance(source, Network):
        if overrides:
            what = f"{source.name} with {', '.join(overrides)}"
            raise ConfigError(what, "a network that was read has its contract", f"ash.read(path, {_words(overrides)})")
        return source
    if isinstance(source, Bundle):
        source = source.folder
    elif not isinstance(source, str | Path) and hasattr(source, "vocabulary"):  # a `Run`: no torch is loaded
        source = source.path
    if not isinstance(source, str | Path):
        if not hasattr(source, "metadata"):
            what = f"a {type(source).__name__} is not a network"
            why = "it is a path, a NIR graph, a bundle, or a network that was read"
            raise ConfigError(what, why, "for a torch module: ash.from_torch(module, sample)")
        refuse_input_shape("a graph in memory", overrides)
        graph = cast("nir.NIRGraph", source)
        return Network("network", None, graph, read_contract(graph.metadata, **overrides))
    path = Path(source)
    kind = kind_of(path)
    if kind == "netx":
        return Network(path.stem, path, reading=netx_reading(path, overrides))
    # A bundle of a lava-dl network carries that file, not a graph.
    if kind == "bundle" and (path / NETX).exists():
        stored = reading_of(read_bundle(path).program("integer"))
        return Network(path.stem, path / NETX, reading=netx_reading(path, overrides, stored))
    refuse_input_shape(str(path), overrides)
    run = None
    if kind == "run":
        deploy = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
        run = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").load_run(path)
        graph = deploy.deployed_graph(run.model)
    else:
        graph = load_graph(path / NETWORK if kind == "bundle" else path)
    read = read_contract(graph.metadata, **overrides)
    if kind == "bundle" and not records_assumptions(path):
        read = replace(read, recorded=not _any_open(graph, read))
    return Network(path.stem, path, graph, read, run)


def _require_fields(overrides: Overrides) -> None:
    """Raise `ConfigError` if a name is no field of a contract."""
    known = [*(field.name for field in fields(Contract)), "input_shape"]
    unknown = [name for name in overrides if name not in known]
    if unknown:
        do = _words({"dt_s": overrides["dt"]}) if unknown == ["dt"] else f"one of {', '.join(known)}"
        raise ConfigError(f"no contract has a field {unknown[0]!r}", "it would be ignored", do)


def _words(overrides: Overrides) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in overrides.items())


def _any_open(graph: nir.NIRGraph, read: ReadContract) -> bool:
    """Return True if a node depends on a field that no option states."""
    fields = [name for name in DEPENDS if name not in read.given]
    return any(matching(wire(graph), read.contract, fields))


def contract_options(overrides: Overrides) -> str:
    """Return contract fields as they are written on the command line, e.g. `` --dt 0.001``."""
    return "".join(f" {contract_option(name, value)}" for name, value in overrides.items() if value is not None)


def netx_reading(path: str | Path, overrides: Overrides, stored: NetxReading | None = None) -> NetxReading:
    """Return the choices with which a lava-dl file is read.

    Args:
        path: the file, or the bundle that carries it.
        overrides: choices that win over the stored ones.
        stored: choices with which a bundle was made.

    Raises:
        ConfigError: a field of `Contract` that the file does not leave open, or no such value.
    """
    fields = {name: value for name, value in overrides.items() if value is not None}
    closed = {name: value for name, value in fields.items() if name not in ("comparison", "input_shape", "timesteps")}
    if closed:
        why = "a lava-dl file says itself how its neurons step, reset and are fed"
        raise ConfigError(f"{path} with{contract_options(closed)}", why, "leave it out")
    if "comparison" in fields:
        Contract(comparison=fields["comparison"])  # raises for a value that does not exist
        fields["stated"] = True
    if "timesteps" in fields:
        Contract(timesteps=fields["timesteps"])
    if "input_shape" in fields:
        sizes = fields["input_shape"]
        if not isinstance(sizes, tuple | list) or len(sizes) not in (1, 2, 3) or not all(_size(size) for size in sizes):
            why = "a shape is 1 to 3 positive whole numbers"
            raise ConfigError(f"input_shape = {sizes!r}", why, "input_shape=(C, H, W), or --input-shape C,H,W")
        fields["input_shape"] = tuple(int(size) for size in sizes)
    return replace(stored or NetxReading(), **fields)


def _size(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and int(value) >= 1


def refuse_input_shape(what: str, overrides: Overrides) -> None:
    """Raise `ConfigError` if ``overrides`` state the shape of a NIR graph's input."""
    if "input_shape" in overrides:
        option = contract_options({"input_shape": overrides["input_shape"]})
        why = "the shapes of a NIR graph follow from its nodes; lava-dl files alone may leave them open"
        raise ConfigError(f"{what} with{option}", why, "leave it out")


def kind_of(path: Path) -> Kind:
    """Return the kind of thing at ``path``.

    Raises:
        AshneuroError: it does not exist, or is none of them.
    """
    if not path.exists():
        why, do = "a run folder, a bundle or a .nir file is expected", "check the path"
        if str(path) in presets():
            why, do = "it names settings, not a run", f"ashneuro train {path}, which writes runs/{path}"
        raise AshneuroError(f"{path} does not exist", why, do)
    if path.is_file():
        return "netx" if is_netx(path) else "nir"
    if is_bundle(path):
        return "bundle"
    if (path / "config.json").exists():
        return "run"
    raise AshneuroError(
        f"{path} is neither a run nor a bundle",
        "a run has config.json and model.safetensors; a bundle has manifest.json",
        "name a folder that `ashneuro train` or `ashneuro export` wrote, or a .nir file",
    )


def require_kind(path: Path, wanted: Kind) -> None:
    """Raise `AshneuroError` unless ``path`` is of the kind ``wanted``."""
    kind = kind_of(path)
    if kind != wanted:
        raise AshneuroError(
            f"{path} is a {kind}", f"a {wanted} is needed here", "name a folder that `ashneuro train` wrote"
        )


def has_bundle(source: object) -> TypeGuard[str | Path | Bundle]:
    """Return True for a bundle, and for a run: the bundle has the weights that were exported."""
    if isinstance(source, str | Path):
        return kind_of(Path(source)) in ("run", "bundle")
    return isinstance(source, Bundle)


def open_bundle(source: str | Path | Bundle) -> Bundle:
    """Return a bundle, or the bundle of a run.

    Raises:
        AshneuroError: there is none yet, or the run was trained on since.
    """
    return source if isinstance(source, Bundle) else read_bundle(bundle_folder(source))


def bundle_folder(source: str | Path | Bundle) -> Path:
    """Return the folder of a bundle, or of the bundle of a run; errors as `open_bundle`."""
    from ashneuro.training.provenance import same_weights

    if isinstance(source, Bundle):
        return source.folder
    path = Path(source)
    kind = kind_of(path)
    if kind == "run":
        folder = path / "bundle"
        if not folder.exists():
            raise AshneuroError(
                f"{path} has no bundle yet",
                "its spiking part was not exported",
                f"ashneuro export {path} --target lava",
            )
        if same_weights(folder, path) is False:
            raise AshneuroError(
                f"{folder} is stale", "the run was trained on since it was exported", f"ashneuro export {path}"
            )
        return folder
    if kind != "bundle":
        raise AshneuroError(
            f"{path} is not a bundle", "it carries no program and no reference spikes", f"ashneuro export {path}"
        )
    return path


def named_inputs(
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]], names: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Return samples (T, B, *shape) by input name.

    Args:
        inputs: one array for a network with one input, arrays by name, or the path of a .npy or
            .npz of these.
        names: the network's inputs.

    Raises:
        DataError: the file cannot be read, or it is not clear which array is for which input.
    """
    import numpy as np

    if isinstance(inputs, str | Path):
        return _load_inputs(Path(inputs), names)
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if len(names) != 1:
        raise DataError("one array of inputs", f"the network's inputs are {', '.join(names)}", "{name: array, …}")
    return {names[0]: np.asarray(inputs)}


def _load_inputs(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    import numpy as np

    try:
        loaded = load_arrays(path)
        arrays = {names[0]: loaded} if isinstance(loaded, np.ndarray) and len(names) == 1 else loaded
        if isinstance(arrays, np.ndarray) or set(arrays) != set(names):
            has = "one array" if isinstance(arrays, np.ndarray) else f"arrays {', '.join(arrays)}"
            raise DataError(
                f"{path} holds {has}",
                f"the network's inputs are {', '.join(names)}",
                "numpy.savez(path, NAME=x, …), one per input",
            )
        return {name: arrays[name] for name in names}
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path}", reason_of(error), "write it with numpy.save(path, x), x of shape (T, B, *shape)"
        ) from error
