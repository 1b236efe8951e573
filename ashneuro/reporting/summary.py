"""The content of a report, and its JSON form ``ashneuro.report/1``.

A part that was not run is absent, with the reason; nothing is filled in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro import __version__
from ashneuro.cost.compare import Comparison
from ashneuro.cost.comparison.contenders import Contender
from ashneuro.cost.comparison.conventions import Convention
from ashneuro.cost.measure import Measurement, NotMeasured
from ashneuro.cost.own.network import OwnAnn
from ashneuro.cost.profile import HardwareProfile
from ashneuro.cost.second_opinion import SecondOpinion
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import LayerWorkload, StepWorkload, Workload, neurobench
from ashneuro.display import Plotted
from ashneuro.evaluation import Evaluation, RetrievalExample, TaskEvaluation
from ashneuro.exchange import EpochMetrics, StreamEvaluation
from ashneuro.files import write_text
from ashneuro.program.assumption import Assumptions, to_json
from ashneuro.program.certificate import Certificate
from ashneuro.program.placement.placement import Placement
from ashneuro.reporting.plain import plain

SCHEMA = "ashneuro.report/1"

# Parts of every report, and the usual reason for their absence.
PARTS = {
    "training": "the network was not trained here",
    "evaluations": "no evaluation was run",
    "workload": "nothing was simulated, so nothing was counted",
    "estimates": "no profile of a chip or a device was chosen",
    "comparison": "there is no ANN twin to compare with",
    "placements": "no chip was chosen whose cores are known, or the network does not fit one",
    "measurements": "no counter was read and no measurement was given; --measure reads this machine's",
    "certificate": "the spiking part was not exported",
    "raster": "no spikes were kept",
    "examples": "no retrieval examples were drawn",
}


@dataclass(frozen=True, eq=False, repr=False)
class Report(Plotted):
    """Results about one network. Every field but ``title`` may be absent.

    Args:
        title: name of the run or file.
        about: label to text: paths, hashes, source of the spikes.
        assumptions: what the network's source left open.
        config: settings of the run.
        training: metrics of every epoch.
        evaluations: retrieval; this network's first.
        tasks: tasks beside retrieval; this network's first.
        streams: accuracy and energy per frame of clips; this network's first.
        facts: label to text: further single results.
        workload: counts of the hybrid.
        estimates: cost of the deployed part on neuromorphic profiles.
        comparison: hybrid against ANN twins.
        own_ann: the user's own ANN, counted.
        placements: the deployed part on the cores of chips.
        steps: events of every layer in every timestep, summed over ``step_samples`` samples.
        measurements: measured energies, and the reasons for missing ones.
        certificate: comparisons of the export, spike by spike.
        profiles: all profiles that the estimates used.
        raster: spikes (T, neurons…) of one sample, by layer.
        examples: queries and what they retrieved.
        pictures: PNG files of the examples, by key of the pair.
        not_run: part to reason, for parts beyond `PARTS` and for reasons other than the usual.
    """

    title: str
    about: Mapping[str, str] = field(default_factory=dict)
    assumptions: Assumptions = ()
    config: Mapping[str, Any] | None = None
    training: Sequence[EpochMetrics] = ()
    evaluations: Sequence[Evaluation] = ()
    tasks: Sequence[TaskEvaluation] = ()
    streams: Sequence[StreamEvaluation] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    workload: Workload | None = None
    estimates: Sequence[CostEstimate] = ()
    comparison: Comparison | None = None
    own_ann: OwnAnn | None = None
    placements: Sequence[Placement] = ()
    steps: Sequence[StepWorkload] = ()
    step_samples: int = 1
    measurements: Sequence[Measurement | NotMeasured] = ()
    certificate: Certificate | None = None
    profiles: Sequence[HardwareProfile] = ()
    raster: Mapping[str, NDArray[np.generic]] | None = None
    examples: Sequence[RetrievalExample] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> dict[str, str]:
        """Absent parts, with the reason."""
        usual = {part: self.not_run.get(part, why) for part, why in PARTS.items() if not getattr(self, part)}
        return usual | {part: why for part, why in self.not_run.items() if part not in PARTS}

    @property
    def verdict(self) -> str:
        """The sentence at the top of the page."""
        if self.comparison is not None:
            return self.comparison.verdict
        return f"No comparison: {self.missing['comparison']}."

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; pictures and rasters are left to the page."""
        comparison = None
        if self.comparison is not None:
            comparison = _comparison(self.comparison)
        examples = [
            {
                "query": example.text,
                "kind": example.kind,
                "hits": [{"text": hit.text, "correct": hit.correct, "score": hit.score} for hit in example.hits],
            }
            for example in self.examples
        ]
        workload = self.workload and {
            **asdict(self.workload),
            "layers": [_layer_workload(layer) for layer in self.workload.layers],
            "basis": "counted",
            "firing_rate": self.workload.firing_rate,
        }
        result = {
            "schema": SCHEMA,
            "ashneuro": __version__,
            "title": self.title,
            "about": self.about,
            "assumptions": to_json(self.assumptions),
            "verdict": self.verdict,
            "winner": self.comparison.winner if self.comparison else None,
            "missing": self.missing,
            "config": self.config,
            "training": [metrics.to_json() for metrics in self.training],
            "evaluations": [item.to_json() for item in self.evaluations],
            "tasks": [item.to_json() for item in self.tasks],
            "streams": [item.to_json() for item in self.streams],
            "facts": self.facts,
            "workload": workload,
            "estimates": [_estimate(cost) for cost in self.estimates],
            "comparison": comparison,
            "own_ann": self.own_ann and _own_ann(self.own_ann),
            "placements": [
                {**asdict(item), "cores": item.cores, "chips": item.chips, "boards": item.boards}
                for item in self.placements
            ],
            "steps": [asdict(item) for item in self.steps],
            "step_samples": self.step_samples,
            "neurobench": neurobench(self.workload) if self.workload else None,
            "measurements": [
                {**asdict(item), "basis": item.basis} for item in self.measurements if isinstance(item, Measurement)
            ],
            "not_measured": [asdict(item) for item in self.measurements if isinstance(item, NotMeasured)],
            "certificate": self.certificate and self.certificate.to_json(),
            "examples": examples,
            "profiles": {profile.name: asdict(profile) for profile in self.profiles},
        }
        return {key: plain(value) for key, value in result.items()}


def _estimate(cost: CostEstimate) -> dict[str, Any]:
    def energy(value: Any) -> Any:
        return asdict(value) if value else None

    return {
        **asdict(cost),
        "basis": cost.basis,
        "dynamic_j": energy(cost.dynamic_j),
        "bracketed_j": energy(cost.bracketed_j),
        "because": cost.because,
        "by_term_j": {name: energy(value) for name, value in cost.by_term().items()},
        "by_layer_j": {name: energy(value) for name, value in cost.by_layer().items()},
    }


def _own_ann(ann: OwnAnn) -> dict[str, Any]:
    layers = [_layer_workload(layer) for layer in ann.workload.layers]
    return {**asdict(ann), "workload": {**asdict(ann.workload), "layers": layers}, "zero_share": ann.zero_share}


def _layer_workload(layer: LayerWorkload) -> dict[str, Any]:
    """Return the counts of a layer; those of messages with numbers, of passes over frames and of
    values that last from frame to frame only where it has some.
    """
    graded = () if layer.message_bits else ("graded_messages", "message_bits")
    absent = graded if layer.acs_from_counts else (*graded, "acs_from_counts")
    absent = absent if layer.graded_from_ports else (*absent, "macs_from_ports", "graded_from_ports")
    absent = absent if layer.passes > 1 else (*absent, "passes")
    absent = absent if layer.accesses else (*absent, "accesses")
    return {name: value for name, value in asdict(layer).items() if name not in absent}


def _comparison(result: Comparison) -> dict[str, Any]:
    groups = [{**asdict(group), "contenders": [_contender(who) for who in group.contenders]} for group in result.groups]
    return {
        "verdict": result.verdict,
        "winner": result.winner,
        "groups": groups,
        "matches": [{**asdict(each), "spiking": each.spiking.name, "ann": each.ann.name} for each in result.matches],
        "break_even": [
            {**asdict(even), "spiking": even.spiking.name, "ann": even.ann.name} for even in result.break_even
        ],
        "firing_rate": result.firing_rate,
        "thresholds": [asdict(item) for item in result.thresholds],
        "notes": result.notes,
        "conventions": [_convention(line) for line in result.conventions],
        "second_opinions": [_second_opinion(opinion) for opinion in result.second_opinions],
    }


def _second_opinion(opinion: SecondOpinion) -> dict[str, Any]:
    return {
        **{name: getattr(opinion, name) for name in ("model", "basis", "samples", "timesteps", "parts_j", "dynamic_j")},
        **{name: getattr(opinion, name) for name in ("injected_j", "time_s", "latency_s", "fill", "mismatches")},
        "events": {name: {"ours": own, "theirs": other} for name, (own, other) in opinion.events.items()},
        "spikes": [asdict(layer) for layer in opinion.spikes],
        "ours": _estimate(opinion.ours),
        "same_prices": _estimate(opinion.same_prices),
    }


def _convention(line: Convention) -> dict[str, Any]:
    own = asdict(line)
    del own["counting"], own["of"]
    return {"name": line.name, **own, "ratio": line.ratio}


def _contender(who: Contender) -> dict[str, Any]:
    return {
        "name": who.name,
        "metric": who.metric,
        "accuracy": who.accuracy and asdict(who.accuracy),
        "host_j": who.host_j and asdict(who.host_j),
        "deployed_j": who.deployed_j and asdict(who.deployed_j),
        "total_j": who.total_j and asdict(who.total_j),
        "arithmetic_j": who.arithmetic_j and asdict(who.arithmetic_j),
        "basis": [part.basis for part in (who.host, who.deployed) if part],
    }


def write_json(report: Report, path: Path) -> Path:
    """Write ``report.json`` and return its path."""
    write_text(path, json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
    return path
