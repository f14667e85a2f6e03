"""Reference posteriors of the ten benchmark tasks: `python -m tests.benchmarks.references [--only slcp,sir]
[--references DIR]`.

Three routes, all with independent draws:
    closed form           gaussian_linear, gaussian_linear_uniform, gaussian_mixture, two_moons: the plug-in's
                          own.
    importance sampling   bernoulli_glm, sir, lotka_volterra: with the plug-in's likelihood, in the prior's
                          unconstrained coordinates.
    the same, in part     slcp: theta_3, theta_4, theta_5 by importance sampling from (nearly) their marginal;
                          the mean is proposed from N(mean of x, S / 4), which is its conditional, truncated
                          to the prior's box coordinate by coordinate; the signs of theta_3 and theta_4 are
                          random. The weight is that of all five, with the plug-in's likelihood.

slcp_distractors and bernoulli_glm_raw have the posteriors of slcp and bernoulli_glm. The effective size of
the pool is kept with the draws; a pool that is too small, or whose draws would repeat, is refused. The
command compares what it makes with the means and standard deviations of the published draws (observations 1
and 2, `tests/data`) and, with --references, with the published draws themselves.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import norm, truncnorm, uniform

import sbi_flows as sf
from sbi_flows.files import make_folder, write_bytes
from sbi_flows.rng import stream
from simulators.slcp import NAMES as SLCP_NAMES
from tests.benchmarks.importance import adapt, effective, in_parts, normalised, systematic
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]

TASKS = (
    *("gaussian_linear", "gaussian_linear_uniform", "slcp", "slcp_distractors", "bernoulli_glm"),
    *("bernoulli_glm_raw", "gaussian_mixture", "two_moons", "sir", "lotka_volterra"),
)
SAME_POSTERIOR = {"slcp_distractors": "slcp", "bernoulli_glm_raw": "bernoulli_glm"}
FOLDER = Path("build/benchmarks/references")
DRAWS = 10_000
_ROUND, _POOL, _SLCP_POOL = 4000, 10, 50  # the posteriors of slcp have heavy tails
_LEAST_ESS = 2.0
_MOST_REPEATED = 0.005
_COMPONENTS = {"bernoulli_glm": 1}
_ROWS = {"reference", "y_obs"}


@dataclass(frozen=True)
class Reference:
    """draws (n, d) from p(theta | y), their origin, and the effective size of their pool."""

    draws: F
    origin: str
    ess: float


def reference(
    task: str, number: str, *, published: Path | None = None, cache: Path = FOLDER, n: int = DRAWS
) -> Reference:
    """Draws for one observation: from the folder `published`, else made here and kept in `cache`."""
    found = None if published is None else _published(task, number, published)
    if found is not None:
        return Reference(found[:n], "published", float(min(n, len(found))))
    task = SAME_POSTERIOR.get(task, task)
    path = cache / f"{task}.{number}.{n}.npz"
    if path.exists():
        with np.load(path) as kept:
            return Reference(kept["draws"].astype(np.float64), str(kept["origin"]), float(kept["ess"]))
    made = make(task, number, n)
    make_folder(cache)
    buffer = io.BytesIO()
    np.savez(buffer, draws=made.draws.astype(np.float32), origin=made.origin, ess=made.ess)
    write_bytes(path, buffer.getvalue())
    return made


def make(task: str, number: str, n: int = DRAWS) -> Reference:
    """Draws from the posterior at a public observation. Raises `RuntimeError` for too poor a pool."""
    simulator, rng = sf.load_simulator(task), stream(int(number), f"reference {task}")
    if simulator.exact_posterior is not None:
        return Reference(
            np.asarray(simulator.exact_posterior(simulator.data(number), n, rng)), "closed form", float(n)
        )
    theta, log_weights = (_slcp_pool if task == "slcp" else _pool)(simulator, simulator.data(number), n, rng)
    ess, rows = effective(log_weights), systematic(log_weights, n, rng)
    repeated = 1 - len(np.unique(rows)) / n
    if ess < _LEAST_ESS * n or repeated > _MOST_REPEATED:
        raise RuntimeError(
            f"{task}, observation {number}: effective size {ess:.0f} of a pool of {len(theta)}, "
            f"{repeated:.1%} of {n} draws repeated, largest weight {normalised(log_weights).max():.2g}; "
            f"wanted an effective size of {_LEAST_ESS * n:.0f} and at most {_MOST_REPEATED:.1%} repeated."
        )
    return Reference(theta[rows], "importance sampling", ess)


def _pool(simulator: sf.Simulator, y: F, n: int, rng: np.random.Generator) -> tuple[F, F]:
    """Theta (m, d) and log weights (m,) of a pool from the likelihood."""
    prior, likelihood = simulator.prior, simulator.log_likelihood
    if likelihood is None:
        raise RuntimeError(f"{simulator.name} has neither a posterior in closed form nor a likelihood.")

    def log_prior(z: F) -> F:
        theta = prior.from_unconstrained(z)
        return np.asarray(prior.log_prob(theta) - prior.to_unconstrained(theta)[1])

    def log_likelihood(z: F) -> F:
        return np.asarray(likelihood(prior.as_mapping(prior.from_unconstrained(z)), y, rng))

    start = prior.to_unconstrained(prior.sample(_ROUND, rng))[0]
    proposal = adapt(log_prior, log_likelihood, start, rng, _COMPONENTS.get(simulator.name, 4))
    z = proposal.sample(_POOL * n, rng)
    return prior.from_unconstrained(z), in_parts(log_likelihood, z) + log_prior(z) - proposal.log_prob(z)


def _slcp_pool(simulator: sf.Simulator, y: F, n: int, rng: np.random.Generator) -> tuple[F, F]:
    """The same for `slcp`: five columns, proposed in two steps."""
    shape = sf.Prior(theta_3=uniform(0, 3), theta_4=uniform(0, 3), theta_5=uniform(-3, 6))
    centre = y.reshape(4, 2).mean(axis=0)
    likelihood = simulator.log_likelihood
    if likelihood is None:
        raise RuntimeError("slcp has lost its likelihood.")

    def full(theta: F) -> F:
        return np.asarray(likelihood(dict(zip(SLCP_NAMES, theta.T, strict=True)), y, rng))

    def factor(theta: F) -> tuple[F, F, F]:
        """[[a, 0], [b, c]] of S / 4."""
        s_1, s_2, correlation = theta[:, 0] ** 2, theta[:, 1] ** 2, np.tanh(theta[:, 2])
        a = np.sqrt(s_1**2 + 1e-6) / 2
        b = correlation * s_1 * s_2 / (4 * a)
        return a, b, np.sqrt(np.maximum((s_2**2 + 1e-6) / 4 - b**2, 1e-12))

    def log_prior(z: F) -> F:
        theta = shape.from_unconstrained(z)
        return np.asarray(shape.log_prob(theta) - shape.to_unconstrained(theta)[1])

    def marginal(z: F) -> F:
        theta = shape.from_unconstrained(z)
        a, b, c = factor(theta)
        at_the_centre = np.column_stack([np.tile(centre, (len(z), 1)), theta])
        mass = _log_mass(centre[0], a) + _log_mass(centre[1], np.hypot(b, c))
        return full(at_the_centre) + np.log(a) + np.log(c) + mass

    proposal = adapt(log_prior, marginal, shape.to_unconstrained(shape.sample(_ROUND, rng))[0], rng)
    z = proposal.sample(_SLCP_POOL * n, rng)
    theta = shape.from_unconstrained(z)
    a, b, c = factor(theta)
    first, log_first = _truncated(np.full(len(z), centre[0]), a, rng)
    second, log_second = _truncated(centre[1] + b / a * (first - centre[0]), c, rng)
    theta[:, :2] *= rng.choice([-1.0, 1.0], (len(z), 2))
    theta = np.column_stack([first, second, theta])
    return theta, in_parts(full, theta) + log_prior(z) - proposal.log_prob(z) - log_first - log_second


def _log_mass(mean: F, sd: F) -> F:
    """log of the mass of N(mean, sd^2) in [-3, 3]."""
    outer, inner = log_ndtr((-3 - np.abs(mean)) / sd), log_ndtr((3 - np.abs(mean)) / sd)
    return np.asarray(inner + np.log(-np.expm1(outer - inner)))


def _truncated(mean: F, sd: F, rng: np.random.Generator) -> tuple[F, F]:
    """A draw of each N(mean, sd^2) truncated to [-3, 3], and its log density."""
    draws = np.clip(truncnorm.rvs((-3 - mean) / sd, (3 - mean) / sd, mean, sd, random_state=rng), -3, 3)
    return draws, norm.logpdf(draws, mean, sd) - _log_mass(mean, sd)


def _published(task: str, number: str, folder: Path) -> F | None:
    """Published draws at the plug-in's own observation, in a random order that is always the same."""
    family = [name for name in TASKS if SAME_POSTERIOR.get(name, name) == SAME_POSTERIOR.get(task, task)]
    for name in [task, *family]:
        path, row = folder / f"{name}.npz", int(number) - 1
        if not path.exists():
            continue
        with np.load(path) as arrays:
            if not set(arrays.files) >= _ROWS:
                raise ValueError(
                    f"{path} must hold {' and '.join(sorted(_ROWS))}, got {', '.join(arrays.files)}."
                )
            if not np.allclose(
                arrays["y_obs"][row], sf.load_simulator(name).data(number), rtol=1e-5, atol=1e-6
            ):
                raise ValueError(f"{path}: observation {number} is not that of the simulator {name}.")
            draws = arrays["reference"][row].astype(np.float64)
        return np.asarray(np.random.default_rng(0).permutation(draws))
    return None


def folded(task: str, theta: F) -> F:
    """theta with symmetric modes mapped onto one another, as in `tests/data/benchmark_posteriors.npz`."""
    theta = theta.copy()
    if task == "slcp":
        theta[:, 2:4] = np.abs(theta[:, 2:4])
    if task == "two_moons":
        below = theta.sum(axis=1) < 0
        theta[below] = -theta[below, ::-1]
    return theta


def compared(task: str, number: str, published: Path | None, n: int) -> str:
    """One line that compares what was made with what was published."""
    from sbi_flows.diagnostics.distances import c2st

    began = time.monotonic()
    made = reference(task, number, n=n)
    line = f"{task} {number}: {made.origin}, effective size {made.ess:,.0f}, {time.monotonic() - began:.0f} s"
    stored = np.load(Path(__file__).parent.parent / "data" / "benchmark_posteriors.npz")
    draws = folded(task, made.draws)
    there = None if published is None else _published(task, number, published)
    if f"{task}/{number}/mean" in stored.files:
        mean, sd = stored[f"{task}/{number}/mean"], stored[f"{task}/{number}/sd"]
    elif there is not None:
        mean, sd = folded(task, there).mean(axis=0), folded(task, there).std(axis=0)
    else:
        return line
    ratio = draws.std(axis=0) / sd
    difference = np.abs((draws.mean(axis=0) - mean) / sd).max()
    line += f"; published: largest difference of means {difference:.3f} sd"
    line += f", sd ratio {ratio.min():.3f} to {ratio.max():.3f}"
    if there is not None:
        m = min(2000, n, len(there))
        line += f", C2ST {c2st(there[:m], made.draws[:m]):.3f} ({m:,} draws)"
    return line


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument(
        "--only",
        default=",".join(name for name in TASKS if name not in SAME_POSTERIOR),
        help="tasks, with commas between",
    )
    parser.add_argument("--observations", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--references", type=Path, help="folder with published draws, <task>.npz")
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args()
    for name in options.only.split(","):
        for which in options.observations.split(","):
            print(compared(name, which, options.references, options.draws), flush=True)
