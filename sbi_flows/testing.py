"""A conformance suite for simulators, to be run by those who write one.

In a test of your own:

    report = sf.testing.check_simulator(my_model)
    assert report.ok, report
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.problem.simulator import Simulator

_DRAWS = 8
_SHARE_ROWS = 200


@dataclass(frozen=True)
class Finding:
    """One rule of the contract: whether it held, and what was seen."""

    rule: str
    ok: bool
    seen: str


@dataclass(frozen=True)
class SimulatorReport:
    """What `check_simulator` found."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every rule held."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        lines = [
            f"{'ok ' if finding.ok else 'NOT'} {finding.rule}: {finding.seen}" for finding in self.findings
        ]
        return "\n".join([f"simulator {self.name!r}", *lines])


def check_simulator(simulator: Simulator, *, seed: int = 0) -> SimulatorReport:
    """Try `simulator` on draws from its prior and report on each rule of the contract. Raises nothing that
    the simulator raises.

    Rules: the prior's map round-trips; it runs; one shape for 1 and 8 draws; the same rng gives the same
    bytes; another rng gives others; theta is not written to; no row depends on how many others there are in
    shape; finite rows; summaries, likelihood, exact posterior and observed data of the right shapes.
    """
    findings = []
    for rule, look in _RULES.items():
        try:
            ok, seen = look(simulator, seed)
        except Exception as error:
            ok, seen = False, f"raised {type(error).__name__}: {error}"
        findings.append(Finding(rule, ok, seen))
    return SimulatorReport(simulator.name, tuple(findings))


def _run(simulator: Simulator, rows: int, seed: int, rng_seed: int = 0) -> NDArray[Any]:
    theta = simulator.prior.sample(rows, np.random.default_rng(seed))
    return simulator.run(theta, np.random.default_rng([seed, rng_seed]))


def _prior(simulator: Simulator, seed: int) -> tuple[bool, str]:
    theta = simulator.prior.sample(_SHARE_ROWS, np.random.default_rng(seed))
    z, _ = simulator.prior.to_unconstrained(theta)
    back = simulator.prior.from_unconstrained(z)
    error = float(np.abs(back - theta).max() / max(1.0, float(np.abs(theta).max())))
    return bool(np.isfinite(z).all() and error < 1e-9), f"largest relative error {error:.1e}"


def _shapes(simulator: Simulator, seed: int) -> tuple[bool, str]:
    one, many = _run(simulator, 1, seed).shape, _run(simulator, _DRAWS, seed).shape
    return one == (1, *simulator.event_shape) and many == (
        _DRAWS,
        *simulator.event_shape,
    ), f"{one} and {many}, events {simulator.event_shape}"


def _same(simulator: Simulator, seed: int) -> tuple[bool, str]:
    same = _run(simulator, _DRAWS, seed).tobytes() == _run(simulator, _DRAWS, seed).tobytes()
    return (
        same,
        "identical bytes"
        if same
        else "two runs with the same rng differ: use only the rng that is handed in",
    )


def _random(simulator: Simulator, seed: int) -> tuple[bool, str]:
    differs = _run(simulator, _DRAWS, seed).tobytes() != _run(simulator, _DRAWS, seed, 1).tobytes()
    return differs, "another rng gives other data" if differs else "the rng has no effect on the output"


def _untouched(simulator: Simulator, seed: int) -> tuple[bool, str]:
    theta = simulator.prior.as_mapping(simulator.prior.sample(_DRAWS, np.random.default_rng(seed)))
    columns: dict[str, Any] = {name: value.copy() for name, value in theta.items()}
    if not simulator.vectorized:
        columns = {
            name: float(value[0]) if np.ndim(value[0]) == 0 else value[0].copy()
            for name, value in theta.items()
        }
    before = {name: np.array(value) for name, value in columns.items()}
    simulator.function(columns, np.random.default_rng(seed))
    written = [
        name for name in before if name not in columns or not np.array_equal(before[name], columns[name])
    ]
    return not written, f"wrote to {', '.join(written)}" if written else "theta as it was"


def _finite(simulator: Simulator, seed: int) -> tuple[bool, str]:
    share = float(np.isfinite(_run(simulator, _SHARE_ROWS, seed).reshape(_SHARE_ROWS, -1)).all(axis=1).mean())
    return share == 1.0, f"{share:.1%} of {_SHARE_ROWS} rows"


def _summaries(simulator: Simulator, seed: int) -> tuple[bool, str]:
    if simulator.summaries is None:
        return True, "none declared"
    values = simulator.compute_summaries(_run(simulator, _DRAWS, seed))
    alone = simulator.compute_summaries(_run(simulator, _DRAWS, seed)[:1])
    same = np.allclose(values[:1], alone, rtol=1e-6, atol=1e-9, equal_nan=True)
    return bool(same and np.isfinite(values).all()), f"shape {values.shape}, " + (
        "each row on its own" if same else "a row depends on the others"
    )


def _likelihood(simulator: Simulator, seed: int) -> tuple[bool, str]:
    if simulator.log_likelihood is None:
        return True, "none declared"
    theta = simulator.prior.as_mapping(simulator.prior.sample(_DRAWS, np.random.default_rng(seed)))
    values = np.asarray(
        simulator.log_likelihood(theta, _run(simulator, 1, seed)[0], np.random.default_rng(seed))
    )
    return values.shape == (_DRAWS,) and not np.isnan(
        values
    ).any(), f"shape {values.shape} for {_DRAWS} rows, {int(np.isnan(values).sum())} NaN"


def _exact(simulator: Simulator, seed: int) -> tuple[bool, str]:
    if simulator.exact_posterior is None:
        return True, "none declared"
    values = np.asarray(
        simulator.exact_posterior(_run(simulator, 1, seed)[0], _DRAWS, np.random.default_rng(seed))
    )
    right = values.shape == (_DRAWS, simulator.prior.d)
    return bool(
        right and simulator.prior.inside(values).all()
    ), f"shape {values.shape}, wanted ({_DRAWS}, {simulator.prior.d}) inside the prior"


def _observed(simulator: Simulator, seed: int) -> tuple[bool, str]:
    for name in simulator.observed:
        simulator.data(name)
    return True, ", ".join(simulator.observed) or "none declared"


_RULES: dict[str, Callable[[Simulator, int], tuple[bool, str]]] = {
    "the prior's map round-trips": _prior,
    "declared shapes, for 1 draw and for 8": _shapes,
    "the same rng gives the same bytes": _same,
    "randomness comes from the rng": _random,
    "theta is not written to": _untouched,
    "all rows are finite": _finite,
    "summaries": _summaries,
    "log_likelihood": _likelihood,
    "exact_posterior": _exact,
    "observed data": _observed,
}
