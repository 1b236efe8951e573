"""Counts by torch's own flop counter, with the operations that it leaves out.

torch is imported when something is counted, not before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ashneuro.errors import AshneuroError, need


@dataclass(frozen=True)
class FlopCount:
    """Products of one computation as torch counts them: dense, with padding and zero weights.

    Args:
        macs: half of torch's flops.
        uncounted: calls of the operations for which torch's counter has no formula: element-wise
            arithmetic, normalisation, softmax, pooling, look-ups, comparisons.
    """

    macs: int
    uncounted: Mapping[str, int]

    def sentence(self) -> str:
        """Return the count as text, with the operations that it leaves out."""
        listed = ", ".join(
            f"{name} × {calls}" for name, calls in sorted(self.uncounted.items(), key=lambda item: -item[1])
        )
        return f"{self.macs:,} MACs, products with padding included; not counted: {listed or 'nothing'}"


def count_flops(run: Callable[[], object]) -> FlopCount:
    """Return the products that ``run()`` computes, without gradients.

    Raises:
        AshneuroError: the counter saw no product; a silent 0 would read as a free network.
        MissingDependency: torch is not installed.
    """
    torch = need("torch", extra="train", purpose="counting the host's operations")
    counter = need("torch.utils.flop_counter", extra="train", purpose="counting the host's operations")
    attention = need("torch.nn.attention", extra="train", purpose="counting the host's operations")
    python_dispatch = need("torch.utils._python_dispatch", extra="train", purpose="counting the host's operations")
    known = counter.flop_registry
    seen: Counter[str] = Counter()

    class Uncounted(python_dispatch.TorchDispatchMode):  # type: ignore[misc, name-defined]
        """Count the calls of operations that compute and have no formula."""

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            returns = function._schema.returns
            view = any(value.alias_info is not None and not value.alias_info.is_write for value in returns)
            if not view and function._overloadpacket not in known:
                seen[function._schema.name.partition("::")[2]] += 1
            return function(*args, **(kwargs or {}))

    # torch has no formula for the fused attention of inference, but has one for each of its parts.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The inner mode sees operations after the flop counter has decomposed them.
        # Nor has it one for fused attention on a CPU.
        plain = attention.sdpa_kernel(attention.SDPBackend.MATH)
        with torch.no_grad(), plain, counter.FlopCounterMode(display=False) as flops, Uncounted():
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    macs = int(flops.get_total_flops()) // 2
    if macs == 0:
        raise AshneuroError(
            "torch's flop counter saw no product",
            f"operations that ran: {', '.join(seen) or 'none'}; none of them has a formula",
            "count what calls a linear layer, a convolution or a matrix product",
        )
    return FlopCount(macs, dict(seen))
