"""How far a neural posterior of Ricker is from the exact one, over the prior: `python -m
tests.benchmarks.ricker_gap POSTERIOR...`. Not run by pytest.

    gap = E_{p(theta) p(y | theta)} [log p(theta | y) - log q(theta | y)] = E_{p(y)} KL(p(. | y) || q(. | y))

over the first 200 of the 5,000 held-out pairs of `tests.benchmarks.accuracy`, in nats; 0 is exact. The log
likelihood is by quadrature, and the log evidence of each series by importance sampling,

    p(y) = E_g [p(theta) p(y | theta) / g(theta)],  g = 0.75 t mixture + 0.2 neural posterior + 0.05 prior,

where the mixture, of Student t distributions, is fitted to the weighted draws of the round before; in the
first round g has none. Rounds of 250 draws are repeated until the effective sample size is 0.35 of them, five
times at most. The last round has as many draws as an error of 0.02 nats takes, and its draws alone give the
estimate.

    --make FILE      a posterior of ricker, for g: make the evidences, and keep them in tests/data when all
                     are there. Resumes; each evidence has a random stream of its own
    --pairs N        stop after N evidences
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.files import make_folder, write_bytes
from sbi_flows.rng import stream
from simulators.ricker import ricker
from tests.benchmarks.importance import StudentMixture, effective, fit
from tests.benchmarks.ricker_grid import log_likelihood
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]

EVIDENCE = Path(__file__).parent.parent / "data" / "ricker_evidence.npz"
PARTS = Path("build/benchmarks/ricker_evidence")
PAIRS, HELD_OUT, ERROR = 200, 5000, 0.02
_ROUND, _ROUNDS, _ENOUGH, _COMPONENTS, _MOST = 250, 5, 0.35, 3, 20_000
_MIXTURE, _NEURAL, _LIMIT = 0.75, 0.2, 14.0


@dataclass(frozen=True)
class Evidence:
    """log p(y) in nats, its standard error, and the effective size of n draws."""

    value: float
    error: float
    ess: float
    n: int


def held_out_pairs() -> tuple[F, F]:
    """theta (5000, 3) and y (5000, 100), new to every fit."""
    rng = np.random.default_rng(77)
    theta = ricker.prior.sample(HELD_OUT, rng)
    return theta, np.asarray(ricker.run(theta, rng), dtype=np.float64)


def log_evidence(posterior: sf.Posterior, y: F, rng: np.random.Generator) -> Evidence:
    """log p(y) of one series, with a standard error of at most 0.02 nats. Raises `RuntimeError` where that is
    not reached.
    """
    z, log_weights = _weighted(posterior, y, None, _ROUND, rng)
    share = 0.0
    for _ in range(_ROUNDS):
        mixture = fit(z, log_weights, rng, _COMPONENTS)
        z, log_weights = _weighted(posterior, y, mixture, _ROUND, rng)
        share = effective(log_weights) / _ROUND
        if share >= _ENOUGH:
            break
    n = int(1.15 * max(1 / share - 1, 0.1) / ERROR**2)
    while n <= _MOST:
        _, log_weights = _weighted(posterior, y, mixture, n, rng)
        ess = effective(log_weights)
        error = float(np.sqrt(1 / ess - 1 / n))
        if error <= ERROR:
            value = float(np.logaddexp.reduce(log_weights) - np.log(n))
            return Evidence(value, error, ess, n)
        n = max(n + _ROUND, int(1.1 * n * (error / ERROR) ** 2))
    raise RuntimeError(f"an error of {ERROR} nats takes {n:,} draws, more than {_MOST:,}.")


def _weighted(
    posterior: sf.Posterior, y: F, mixture: StudentMixture | None, n: int, rng: np.random.Generator
) -> tuple[F, F]:
    """n draws of the proposal in unconstrained coordinates, (n, 3), and the logarithms of their weights."""
    prior = posterior.prior
    of_mixture = _MIXTURE if mixture is not None else 0.0
    shares = np.array([of_mixture, (1 - of_mixture) * _NEURAL / (1 - _MIXTURE), 0.0])
    shares[2] = 1 - shares.sum()
    counts = rng.multinomial(n, shares)
    parts = [] if mixture is None else [mixture.sample(counts[0], rng)]
    neural = posterior.sample(y, int(counts[1]) + 1, seed=int(rng.integers(2**31))).to_numpy()[: counts[1]]
    parts += [prior.to_unconstrained(theta)[0] for theta in (neural, prior.sample(int(counts[2]), rng))]
    z = np.concatenate(parts).clip(-_LIMIT, _LIMIT)
    theta = prior.from_unconstrained(z)
    log_g = [np.log(shares[1]) + posterior.log_prob(theta, y), np.log(shares[2]) + prior.log_prob(theta)]
    if mixture is not None:
        log_g.append(np.log(shares[0]) + mixture.log_prob(z) + prior.to_unconstrained(theta)[1])
    log_p = np.array([log_likelihood(*row, y, 1.25, np.float32) for row in theta]) + prior.log_prob(theta)
    return z, np.asarray(log_p - np.logaddexp.reduce(log_g))


def make(posterior: sf.Posterior, pairs: int) -> None:
    """The evidences of the first pairs, one file each; all of them in one file once they are there."""
    theta, y = held_out_pairs()
    make_folder(PARTS)
    for i in range(min(pairs, PAIRS)):
        path, began = PARTS / f"{i}.npz", time.process_time()
        if not path.exists():
            found = log_evidence(posterior, y[i], stream(1, f"evidence {i}"))
            log_p = ricker.prior.log_prob(theta[i : i + 1])[0] + log_likelihood(*theta[i], y[i]) - found.value
            _save(path, log_evidence=found.value, error=found.error, ess=found.ess, n=found.n, log_p=log_p)
            print(
                f"{i}: {found}, log p(theta | y) {log_p:.3f}, {time.process_time() - began:.1f} s", flush=True
            )
    paths = [PARTS / f"{i}.npz" for i in range(PAIRS)]
    if all(path.exists() for path in paths):
        parts = [dict(np.load(path)) for path in paths]
        columns = {name: np.array([part[name] for part in parts]) for name in parts[0]}
        _save(EVIDENCE, theta=theta[:PAIRS], y=y[:PAIRS].astype(np.uint16), **columns)


def gap(log_q: F, log_p: F) -> tuple[float, float]:
    """The gap in nats from log densities of the same pairs, and its standard error."""
    gaps = log_p - log_q
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))


def gap_of(posterior: sf.Posterior) -> tuple[float, float]:
    """The gap of a posterior of ricker over the kept pairs, and its standard error."""
    with np.load(EVIDENCE) as kept:
        return gap(posterior.log_prob(kept["theta"], kept["y"].astype(np.float64)), kept["log_p"])


def _save(path: Path, **arrays: object) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("posteriors", nargs="*", help="fits of ricker")
    parser.add_argument("--make", metavar="FILE")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    if options.make:
        make(sf.load(options.make), options.pairs)
    for path in options.posteriors:
        print("{}: {:.3f} +- {:.3f} nats".format(path, *gap_of(sf.load(path))))


if __name__ == "__main__":
    main()
