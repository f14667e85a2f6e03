"""The talk's example from end to end: the Ricker model by neural inference, beside ABC and the exact
posterior, on two real inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import sbi_flows as sf
from sbi_flows.comparison.compare import Comparison, compare

_CLASSIC_TRUTH = {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}
_GREAT_TITS_SHARE = 0.3


def run_demo(
    output: Path,
    *,
    minutes: float,
    seed: int,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Comparison]:
    """Fit `ricker` in `minutes` and `great_tits` in a third of that, compare on each observed series, write
    the report to `output`.
    """
    from sbi_flows.comparison.report import write_report

    comparisons = []
    for name, data, truth, budget in (
        ("ricker", "classic", _CLASSIC_TRUTH, minutes),
        ("great_tits", "wytham_wood", None, _GREAT_TITS_SHARE * minutes),
    ):
        simulator = sf.load_simulator(name)
        say(f"--- {name}: learning p(theta | y) for every y, {budget:.2g} minutes")
        began = time.monotonic()
        posterior = sf.fit(simulator, minutes=budget, seed=seed, say=say, progress=progress)
        say(f"fitted in {time.monotonic() - began:.0f} s")
        comparison = compare(posterior, simulator.data(data), simulator, truth=truth, seed=seed, say=say)
        say(comparison.table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
        say(f"verdict on {data}: {comparison.verdict}")
        comparisons.append(comparison)
    write_report(comparisons, output)
    return comparisons
