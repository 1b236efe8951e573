"""Energy and time of the ANN branches of runs, read from this machine's counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ashneuro.errors import need
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from ashneuro.cost.measure import Measurement, NotMeasured
    from ashneuro.training.checkpoint import Run


def measure_runs(runs: Sequence[Run], device: str, *, progress: Progress = silent) -> list[Measurement | NotMeasured]:
    """Return energy and time of the first run's ANN branch and of each other run, at batch 1 and at
    the fastest batch.

    Args:
        runs: runs, loaded to any device.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        progress: called with the phase.
    """
    from ashneuro.cost.measure import NotMeasured, Unreadable, best_batch, counter_for, measure, parse_device

    parse_device(device)
    torch = need("torch", extra="train", purpose="measuring a run")
    found: list[Measurement | NotMeasured] = []
    for run in runs:
        progress("reading energy counters", 0, 0)
        kind = run.config.model.abstract.kind
        name = f"{run.path.name}, {'ANN branch' if kind == 'spiking' else 'whole network'}"
        try:
            counter = counter_for(device, _gpu_uuid(torch.cuda, device))
        except Unreadable as error:
            found.append(NotMeasured(name, device, str(error)))
            continue
        model = run.model.to(device).eval()
        for precision in ("fp32", "fp16") if device.startswith("cuda") else ("fp32",):

            def make(batch: int, model: Any = model, precision: str = precision) -> Callable[[], None]:
                images = torch.rand(batch, 3, model.image_size, model.image_size, device=device)
                branch = ann_branch(model, images)

                def run_once() -> None:
                    with (
                        torch.inference_mode(),
                        torch.autocast(device.partition(":")[0], torch.float16, enabled=precision == "fp16"),
                    ):
                        branch()
                    if device.startswith("cuda"):
                        torch.cuda.synchronize()

                return run_once

            for batch in dict.fromkeys((1, best_batch(make))):
                found.append(measure(make(batch), counter, network=name, batch=batch, precision=precision))
        found.append(NotMeasured(f"{name}, int8", device, "torch runs these convolutions in floating point alone"))
        run.model.to("cpu")  # room on the device for the next run
    return found


def ann_branch(model: Any, images: Any) -> Callable[[], Any]:
    """Return the function that computes a model's host part on ``images``; its spikes are given as
    zeros.
    """
    spiking = model.abstract is not None and model.config.abstract.kind == "spiking"
    spikes = images.new_zeros(model.abstract.timesteps, len(images), *model.abstract.out_shape) if spiking else None
    return lambda: model.embed_images(images, spikes=spikes)


def host_flops(model: Any) -> str:
    """Return the host's operations for one picture by torch's flop counter, and what that leaves
    out, in words.
    """
    from ashneuro.cost.flops import count_flops

    torch = need("torch", extra="train", purpose="counting the host's operations")
    model.eval()
    return count_flops(ann_branch(model, torch.zeros(1, 3, model.image_size, model.image_size))).sentence()


def _gpu_uuid(cuda: Any, device: str) -> str:
    """Return the UUID of the GPU that torch means by ``device``; empty for a processor.

    Raises:
        Unreadable: torch does not see it.
    """
    from ashneuro.cost.measure import Unreadable, parse_device

    kind, index = parse_device(device)
    if kind != "cuda":
        return ""
    count = cuda.device_count() if cuda.is_available() else 0
    if index >= count:
        raise Unreadable(f"torch sees {count} CUDA devices, numbered from 0" if count else "torch sees no CUDA device")
    return str(cuda.get_device_properties(index).uuid)
