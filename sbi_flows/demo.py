"""The Ricker model from end to end: neural inference and all other methods on two observed series."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import sbi_flows as sf
from sbi_flows.comparison.compare import compare
from sbi_flows.comparison.result import Comparison, write_report

_CLASSIC_TRUTH = {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}
_GREAT_TITS_SHARE = 0.3
_MINUTES_EACH = 0.4  # of each method that simulates for one series
_WITHOUT_ROUNDS = ("neural", "rejection", "linear", "smc", "synthetic_likelihood", "exact")


def run_demo(
    output: Path,
    *,
    minutes: float,
    seed: int,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Comparison]:
    """Fit `ricker` in `minutes` and `great_tits` in 0.3 times that, compare the methods on each observed
    series, and write the report to `output`.
    """
    comparisons = []
    for name, data, truth, budget, methods in (
        ("ricker", "classic", _CLASSIC_TRUTH, minutes, "all"),
        ("great_tits", "wytham_wood", None, _GREAT_TITS_SHARE * minutes, _WITHOUT_ROUNDS),
    ):
        simulator = sf.load_simulator(name)
        say(f"--- {name}: learning p(theta | y) for every y, {budget:.2g} minutes")
        began = time.monotonic()
        posterior = sf.fit(simulator, minutes=budget, seed=seed, say=say, progress=progress)
        say(f"fitted in {time.monotonic() - began:.0f} s")
        comparison = compare(
            posterior,
            simulator.data(data),
            simulator,
            methods=methods,
            minutes=_MINUTES_EACH,
            truth=truth,
            seed=seed,
            say=say,
        )
        for table in (comparison.table, comparison.methods):
            say(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
        say(f"{data}: {comparison.preferred.why}.")
        comparisons.append(comparison)
    write_report(comparisons, output)
    return comparisons
