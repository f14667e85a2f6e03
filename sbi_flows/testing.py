"""Tests of the contract of a simulator, for those who write one.

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

_DRAWS, _MANY = 8, 200
Outcome = tuple[bool, str]


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
    """Run `simulator` on draws from its prior and report on each rule of the contract.

    Rules: the prior's map to R^d is inverted; one shape for 1 and 8 draws; the same rng gives the same bytes;
    another rng gives others; theta is not written to; rows are finite, or, with missing=True, hold no
    infinite value and at least one that is observed; summaries, likelihood, exact posterior and observed data
    have the right shapes. Of a mapping, each array is looked at. What the simulator raises is reported, not
    raised.
    """
    findings = []
    for rule, look in _RULES.items():
        if look is _finite and simulator.missing:
            rule, look = "no infinite values, and something observed in each row", _something_observed
        try:
            ok, seen = look(simulator, seed)
        except Exception as error:
            ok, seen = False, f"raised {type(error).__name__}: {error}"
        findings.append(Finding(rule, ok, seen))
    return SimulatorReport(simulator.name, tuple(findings))


def _run(simulator: Simulator, rows: int, seed: int, rng_seed: int = 0) -> NDArray[Any]:
    theta = simulator.prior.sample(rows, np.random.default_rng(seed))
    return simulator.run(theta, np.random.default_rng([seed, rng_seed]))


def _theta(simulator: Simulator, seed: int) -> dict[str, NDArray[np.float64]]:
    return simulator.prior.as_mapping(simulator.prior.sample(_DRAWS, np.random.default_rng(seed)))


def _prior(simulator: Simulator, seed: int) -> Outcome:
    theta = simulator.prior.sample(_MANY, np.random.default_rng(seed))
    z, _ = simulator.prior.to_unconstrained(theta)
    back = simulator.prior.from_unconstrained(z)
    error = float(np.abs(back - theta).max() / max(1.0, float(np.abs(theta).max())))
    return bool(np.isfinite(z).all() and error < 1e-9), f"largest relative error {error:.1e}"


def _shapes(simulator: Simulator, seed: int) -> Outcome:
    shapes = [_run(simulator, n, seed).shape for n in (1, _DRAWS)]
    right = shapes == [(n, *simulator.event_shape) for n in (1, _DRAWS)]
    events = simulator.events
    each = f" of {events.describe()}" if events.named else ""
    return right, f"{shapes[0]} and {shapes[1]}, events {simulator.event_shape}{each}"


def _same(simulator: Simulator, seed: int) -> Outcome:
    same = _run(simulator, _DRAWS, seed).tobytes() == _run(simulator, _DRAWS, seed).tobytes()
    return (
        same,
        "identical bytes" if same else "two runs with the same rng differ: use only the rng passed in",
    )


def _random(simulator: Simulator, seed: int) -> Outcome:
    differs = _run(simulator, _DRAWS, seed).tobytes() != _run(simulator, _DRAWS, seed, 1).tobytes()
    return differs, "another rng gives other data" if differs else "the rng has no effect on the output"


def _untouched(simulator: Simulator, seed: int) -> Outcome:
    columns: dict[str, Any] = {name: value.copy() for name, value in _theta(simulator, seed).items()}
    if not simulator.vectorized:
        columns = {name: float(v[0]) if v.ndim == 1 else v[0].copy() for name, v in columns.items()}
    before = {name: np.array(value) for name, value in columns.items()}
    simulator.function(columns, np.random.default_rng(seed))
    kept = [name in columns and np.array_equal(value, columns[name]) for name, value in before.items()]
    written = [name for name, same in zip(before, kept, strict=True) if not same]
    return not written, f"wrote to {', '.join(written)}" if written else "theta as it was"


def _finite(simulator: Simulator, seed: int) -> Outcome:
    y = _run(simulator, _MANY, seed).reshape(_MANY, -1)
    finite = float(np.isfinite(y).all(axis=1).mean())
    hint = ""
    if np.isnan(y).any() and not np.isnan(y).all(axis=1).any():
        hint = '. If NaN means "not observed", declare it: @sf.simulator(prior, missing=True)'
    return finite == 1.0, f"{finite:.1%} of {_MANY} rows{_where(simulator, ~np.isfinite(y))}{hint}"


def _something_observed(simulator: Simulator, seed: int) -> Outcome:
    y = _run(simulator, _MANY, seed).reshape(_MANY, -1)
    infinite, missing = np.isinf(y), np.isnan(y)
    wrong = {
        "hold infinite values": infinite.any(axis=1),
        "hold nothing that is observed": missing.all(axis=1),
    }
    said = [f"{int(rows.sum())} of {_MANY} rows {what}" for what, rows in wrong.items() if rows.any()]
    gaps = f"{missing.mean():.1%} of the values are missing{_where(simulator, missing)}"
    return not said, "; ".join([*said, gaps]) + (_where(simulator, infinite) if infinite.any() else "")


def _where(simulator: Simulator, found: NDArray[np.bool_]) -> str:
    """The arrays of a mapping in which something was found; "" for one array, and for nothing."""
    if not simulator.events.named or not found.any():
        return ""
    names = [repr(name) for name, where in simulator.events.slices.items() if found[:, where].any()]
    return f" (in {', '.join(names)})"


def _seen(simulator: Simulator, rows: int, seed: int) -> NDArray[Any]:
    """Events with the gaps and lengths that a fit trains for."""
    y, observe = _run(simulator, rows, seed), simulator.observe
    return y if observe is None else observe(y, np.random.default_rng(seed))


def _summaries(simulator: Simulator, seed: int) -> Outcome:
    if simulator.summaries is None:
        return True, "none declared"
    y = _seen(simulator, _DRAWS, seed)
    values, alone = simulator.compute_summaries(y), simulator.compute_summaries(y[:1])
    same = np.allclose(values[:1], alone, rtol=1e-6, atol=1e-9, equal_nan=True)
    rows = "each row on its own" if same else "a row depends on the others"
    bad = np.isinf(values) if simulator.missing else ~np.isfinite(values)
    found = (
        f", {int(bad.sum())} values are infinite{'' if simulator.missing else ' or NaN'}" if bad.any() else ""
    )
    return bool(same and not bad.any()), f"shape {values.shape}, {rows}{found}"


def _likelihood(simulator: Simulator, seed: int) -> Outcome:
    if simulator.log_likelihood is None:
        return True, "none declared"
    y, rng = _seen(simulator, 1, seed)[0], np.random.default_rng(seed)
    values = np.asarray(simulator.log_likelihood(_theta(simulator, seed), y, rng))
    missing = int(np.isnan(values).sum())
    return values.shape == (_DRAWS,) and not missing, f"shape {values.shape} for {_DRAWS} rows, {missing} NaN"


def _exact(simulator: Simulator, seed: int) -> Outcome:
    if simulator.exact_posterior is None:
        return True, "none declared"
    y, rng = _seen(simulator, 1, seed)[0], np.random.default_rng(seed)
    values, wanted = np.asarray(simulator.exact_posterior(y, _DRAWS, rng)), (_DRAWS, simulator.prior.d)
    inside = values.shape == wanted and bool(simulator.prior.inside(values).all())
    vary = inside and bool((np.ptp(values, axis=0) > 0).all())
    return vary, f"shape {values.shape}, wanted {wanted} inside the prior that vary"


def _observed(simulator: Simulator, seed: int) -> Outcome:
    for name in simulator.observed:
        simulator.data(name)
    return True, ", ".join(simulator.observed) or "none declared"


_RULES: dict[str, Callable[[Simulator, int], Outcome]] = {
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
