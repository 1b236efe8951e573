"""What a user may name on the command line: a run folder, a bundle, a NIR file of anyone's, or a lava-dl netx file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.errors import AshneuroError, ConfigError, DataError, need
from ashneuro.spiking.contract import ReadContract, read_contract

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.program.bundle import Bundle

Kind = Literal["run", "bundle", "nir", "netx"]


@Parameter(name="*")
@dataclass(frozen=True)
class ContractOptions:
    """What a NIR file may leave open; given here, it wins over the file."""

    dt: Annotated[float | None, Parameter(help="Duration of one step, seconds.")] = None
    timesteps: Annotated[int | None, Parameter(help="Steps per sample.")] = None
    reset: Annotated[
        Literal["value", "subtract"] | None, Parameter(help="What a spike does to v: 'value' sets it to v_reset.")
    ] = None
    reset_delay: Annotated[int | None, Parameter(help="Steps between a spike and its reset.")] = None
    start: Annotated[Literal["v_leak", "v_reset"] | None, Parameter(help="Where v is when a sample starts.")] = None
    integration: Annotated[
        Literal["euler", "exponential"] | None,
        Parameter(help="Whether a step decays by dt/τ (Norse, snnTorch, SpikingJelly) or by 1 − e^(−dt/τ) (sinabs)."),
    ] = None
    if_convention: Annotated[
        Literal["per-step", "per-second"] | None,
        Parameter(help="Whether IF adds R·x once a step (Norse, sinabs, snnTorch) or dt·R·x (SpikingJelly)."),
    ] = None
    input_coding: Annotated[
        Literal["constant-current", "current", "spikes"] | None, Parameter(help="What the inputs are.")
    ] = None

    def overrides(self) -> dict[str, object]:
        """Return the fields under the contract's own names."""
        return {"dt_s": self.dt} | {name: value for name, value in vars(self).items() if name != "dt"}

    def words(self) -> str:
        """Return the options that were given, as they are written on the command line."""
        return "".join(
            f" --{name.replace('_', '-')} {value}" for name, value in vars(self).items() if value is not None
        )

    def require_none(self, path: Path) -> None:
        """Raise `ConfigError` where an option is given for a file that leaves nothing open."""
        if words := self.words():
            raise ConfigError(
                f"{path} with{words}",
                "a lava-dl file says itself how its neurons step, reset and are fed",
                "leave it out",
            )


def kind_of(path: Path) -> Kind:
    """Return what ``path`` is.

    Raises:
        AshneuroError: it does not exist, or is none of them.
    """
    from ashneuro.program.bundle import is_bundle
    from ashneuro.program.netx.read import is_netx

    if not path.exists():
        raise AshneuroError(
            f"{path} does not exist", "a run folder, a bundle or a .nir file is expected", "check the path"
        )
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


def network_of(path: Path) -> tuple[Kind, Path]:
    """Return what ``path`` is, and the same of the lava-dl file that a bundle carries instead of a graph."""
    from ashneuro.program.bundle import NETX

    kind = kind_of(path)
    return ("netx", path / NETX) if kind == "bundle" and (path / NETX).exists() else (kind, path)


def load_graph(path: Path, options: ContractOptions) -> tuple[nir.NIRGraph, ReadContract]:
    """Return the NIR graph behind a run, a bundle or a file, sound or not, and the contract it is read with."""
    from ashneuro.program.nir_file import load_graph as read_file

    kind = kind_of(path)
    if kind == "run":
        deploy = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
        checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run")
        graph = deploy.deployed_graph(checkpoint.load_run(path).model)
    else:
        graph = read_file(path / "network.nir" if kind == "bundle" else path)
    return graph, read_contract(graph.metadata, **options.overrides())


def load_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path``, or of the run at ``path``.

    Raises:
        AshneuroError: there is none yet, or the run was trained on since.
    """
    from ashneuro.program.bundle import read_bundle
    from ashneuro.training.provenance import same_weights

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
        path = folder
    elif kind != "bundle":
        raise AshneuroError(
            f"{path} is not a bundle", "it carries no program and no reference spikes", f"ashneuro export {path}"
        )
    return read_bundle(path)


def input_names(graph: nir.NIRGraph) -> list[str]:
    """Return the names of a graph's inputs."""
    import nir

    return [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]


def load_inputs(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Return the arrays (T, B, *shape) in a .npy (for a network with one input) or a .npz, by the name of the input they are for.

    Raises:
        DataError: the file cannot be read, or does not say which array is for which input.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {names[0]: loaded} if isinstance(loaded, np.ndarray) and len(names) == 1 else loaded
        if isinstance(arrays, np.ndarray) or set(arrays) != set(names):
            has = "one array" if isinstance(arrays, np.ndarray) else f"arrays {', '.join(arrays)}"
            raise DataError(
                f"{path} holds {has}",
                f"the network's inputs are {', '.join(names)}",
                "numpy.savez(path, NAME=x, …), one per input",
            )
        return {name: arrays[name] for name in names}  # a .npz is read only now, member by member
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read {path}", str(error), "write it with numpy.save(path, x), x of shape (T, B, *shape)"
        ) from error
