"""Public names of the package: lazy, typed, and sufficient from file to cost."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ashneuro
from tests.program import networks

PACKAGE = Path(ashneuro.__file__).parent
FUNCTIONS = (
    "read",
    "check",
    "lower",
    "export",
    "simulate",
    "verify",
    "report",
    "compare",
    "train",
    "evaluate",
    "search",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_is_lazy() -> None:
    loaded = run("import sys, ashneuro; print(*sys.modules)").split()
    assert not {"torch", "numpy", "nir", "pydantic", "matplotlib"} & set(loaded)
    assert [name for name in loaded if name.startswith("ashneuro")] == ["ashneuro"]


def test_public_names_are_typed() -> None:
    assert len(ashneuro.__all__) == len(set(ashneuro.__all__))
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {alias.name: node.module for node in typed.body for alias in node.names}
    for name in set(ashneuro.__all__) - {"__version__"}:
        found = getattr(ashneuro, name)
        assert found.__doc__ and found.__module__ == declared[name], name
    assert set(ashneuro.__all__) <= set(dir(ashneuro))
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        ashneuro.nothing_of_ours  # noqa: B018


def test_modules_do_not_hide_public_functions() -> None:
    # Importing a sub-package sets an attribute of its name on the package.
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] in ("lava_worker", "sanafe_worker") or parts[-1] in ("__main__", "__init__"):
            continue
        try:
            importlib.import_module(".".join(parts))
        except ImportError as error:
            assert error.name in ("triton", "resvg_py"), path
    for name in FUNCTIONS:
        assert callable(getattr(ashneuro, name)), name


def test_five_statements_from_file_to_cost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [networks.affine(6, 5, rng), networks.lif((5,), rng, uniform=True)]
    path, x = tmp_path / "small.nir", (rng.random((8, 3, 6)) < 0.4).astype(np.uint8)
    import nir

    nir.write(path, networks.chain((6,), *parts))

    network = ashneuro.read(path, dt_s=1e-3, input_coding="spikes")
    findings = ashneuro.check(network, "lava")
    exported = ashneuro.export(network, inputs=x, lava=None, accept_assumptions=True)
    record = ashneuro.simulate(exported.bundle, x, on="loihi")
    costs = ashneuro.compare(exported.bundle, profiles=["loihi1", "cmos45"])

    assert all(finding.ok for finding in findings)
    assert exported.bundle.folder == tmp_path / "small.bundle" and not exported.certificate.failed
    assert next(iter(record.layers.values())).raster.shape[:2] == (8, 3)
    assert costs.groups and costs.verdict
    assert ashneuro.verify(exported.bundle, lava=None).failed is False
    integer = ashneuro.lower(network, "integer", inputs=x)
    again = ashneuro.simulate(integer, x, on="loihi")
    for name, activity in record.layers.items():
        np.testing.assert_array_equal(activity.raster, again.layers[name].raster)


def test_networks_methods_equal_functions(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = networks.chain((6,), networks.affine(6, 5, rng), networks.lif((5,), rng, uniform=True))
    x = (rng.random((8, 3, 6)) < 0.4).astype(np.uint8)
    network = ashneuro.read(graph, dt_s=1e-3, input_coding="spikes")

    assert network.check(target="lava", inputs=x) == ashneuro.check(network, "lava", inputs=x)
    exported = network.export(tmp_path / "small", inputs=x, lava=None, accept_assumptions=True)
    records = exported.simulate(x, on="loihi"), ashneuro.simulate(exported.bundle, x, on="loihi")
    for name, activity in records[0].layers.items():
        np.testing.assert_array_equal(activity.raster, records[1].layers[name].raster)
    floats = network.simulate(x), ashneuro.simulate(network, x)
    for name, activity in floats[0].layers.items():
        np.testing.assert_array_equal(activity.raster, floats[1].layers[name].raster)
