"""ashneuro: deploy and simulate hybrid ANN–SNN vision–language models, and know what they cost.

The names below load when they are first used, so the import is quick and needs no torch. ::

    import ashneuro as ash

    network = ash.from_torch(module, x)                            # x: (T, B, *shape)
    network = ash.read("model.nir", dt_s=1e-3)                     # or a file
    findings = ash.check(network, "lava")
    exported = ash.export(network, inputs=x, accept_assumptions=True)  # x: (T, B, *shape)
    record = ash.simulate(exported.bundle, x, on="lava")
    costs = ash.compare(exported.bundle, ann=my_ann, profiles=["loihi1", "cmos45"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name → the module that defines it.
_MODULES = {
    "read": "ashneuro.workflows.networks",
    "from_torch": "ashneuro.workflows.from_torch",
    "match_contract": "ashneuro.workflows.match",
    "check": "ashneuro.workflows.check",
    "lower": "ashneuro.workflows.lower",
    "export": "ashneuro.workflows.export",
    "export_sanafe": "ashneuro.workflows.sanafe",
    "simulate": "ashneuro.workflows.simulate",
    "verify": "ashneuro.workflows.verify",
    "report": "ashneuro.workflows.report",
    "write_report": "ashneuro.workflows.report",
    "compare": "ashneuro.workflows.report",
    "train": "ashneuro.workflows.train",
    "evaluate": "ashneuro.workflows.evaluate",
    "evaluate_task": "ashneuro.workflows.evaluate",
    "search": "ashneuro.workflows.search",
    "push": "ashneuro.workflows.hub",
    "pull": "ashneuro.workflows.hub",
    "HybridSession": "ashneuro.workflows.hybrid",
    "AshneuroError": "ashneuro.errors",
    "Assumption": "ashneuro.program.assumption",
    "Bundle": "ashneuro.program.bundle",
    "Certificate": "ashneuro.program.certificate",
    "Comparison": "ashneuro.cost.compare",
    "Contract": "ashneuro.spiking.contract",
    "ContractMatch": "ashneuro.program.source",
    "CostEstimate": "ashneuro.cost.terms",
    "Evaluation": "ashneuro.evaluation",
    "EvaluationResult": "ashneuro.workflows.evaluate",
    "Exported": "ashneuro.workflows.export",
    "Finding": "ashneuro.program.rules.finding",
    "Findings": "ashneuro.program.rules.finding",
    "HardwareProfile": "ashneuro.cost.profile",
    "LavaSettings": "ashneuro.workflows.lava",
    "Measurement": "ashneuro.cost.measure",
    "Network": "ashneuro.workflows.networks",
    "Noise": "ashneuro.workflows.noise",
    "Program": "ashneuro.program.program",
    "Report": "ashneuro.reporting.summary",
    "Run": "ashneuro.training.checkpoint",
    "RunConfig": "ashneuro.config",
    "SanafeExport": "ashneuro.workflows.sanafe",
    "SearchResult": "ashneuro.workflows.search",
    "SpikeRecord": "ashneuro.simulation.record",
    "TaskEvaluation": "ashneuro.evaluation",
    "Workload": "ashneuro.cost.workload",
}

__all__ = ["__version__", *_MODULES]

if TYPE_CHECKING:
    from ashneuro.config import RunConfig as RunConfig
    from ashneuro.cost.compare import Comparison as Comparison
    from ashneuro.cost.measure import Measurement as Measurement
    from ashneuro.cost.profile import HardwareProfile as HardwareProfile
    from ashneuro.cost.terms import CostEstimate as CostEstimate
    from ashneuro.cost.workload import Workload as Workload
    from ashneuro.errors import AshneuroError as AshneuroError
    from ashneuro.evaluation import Evaluation as Evaluation
    from ashneuro.evaluation import TaskEvaluation as TaskEvaluation
    from ashneuro.program.assumption import Assumption as Assumption
    from ashneuro.program.bundle import Bundle as Bundle
    from ashneuro.program.certificate import Certificate as Certificate
    from ashneuro.program.program import Program as Program
    from ashneuro.program.rules.finding import Finding as Finding
    from ashneuro.program.rules.finding import Findings as Findings
    from ashneuro.program.source import ContractMatch as ContractMatch
    from ashneuro.reporting.summary import Report as Report
    from ashneuro.simulation.record import SpikeRecord as SpikeRecord
    from ashneuro.spiking.contract import Contract as Contract
    from ashneuro.training.checkpoint import Run as Run
    from ashneuro.workflows.check import check as check
    from ashneuro.workflows.evaluate import EvaluationResult as EvaluationResult
    from ashneuro.workflows.evaluate import evaluate as evaluate
    from ashneuro.workflows.evaluate import evaluate_task as evaluate_task
    from ashneuro.workflows.export import Exported as Exported
    from ashneuro.workflows.export import export as export
    from ashneuro.workflows.from_torch import from_torch as from_torch
    from ashneuro.workflows.hub import pull as pull
    from ashneuro.workflows.hub import push as push
    from ashneuro.workflows.hybrid import HybridSession as HybridSession
    from ashneuro.workflows.lava import LavaSettings as LavaSettings
    from ashneuro.workflows.lower import lower as lower
    from ashneuro.workflows.match import match_contract as match_contract
    from ashneuro.workflows.networks import Network as Network
    from ashneuro.workflows.networks import read as read
    from ashneuro.workflows.noise import Noise as Noise
    from ashneuro.workflows.report import compare as compare
    from ashneuro.workflows.report import report as report
    from ashneuro.workflows.report import write_report as write_report
    from ashneuro.workflows.sanafe import SanafeExport as SanafeExport
    from ashneuro.workflows.sanafe import export_sanafe as export_sanafe
    from ashneuro.workflows.search import SearchResult as SearchResult
    from ashneuro.workflows.search import search as search
    from ashneuro.workflows.simulate import simulate as simulate
    from ashneuro.workflows.train import train as train
    from ashneuro.workflows.verify import verify as verify


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ashneuro' has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
