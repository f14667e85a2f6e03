"""Model choice against exact evidence: `python -m tests.benchmarks.models gaussian` and so on.

gaussian: two Gaussian models in closed form (`tests.comparison.models.gaussians`); 1,000 data sets.
series: the Ricker and the Gompertz map, 27 counts; held-out series of either; exact evidence by importance
sampling with particle filters.
classic: the same of 100 counts.
neither: series of 27 counts that neither map makes, and whether they are called.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

import sbi_flows as sf
from sbi_flows.comparison.models.evidence import EvidenceRequest, evidence_of_models
from sbi_flows.comparison.models.predictions import Predictions
from sbi_flows.comparison.models.request import checked_models
from sbi_flows.notes import Notes
from sbi_flows.verdict import LEVELS
from simulators.gompertz import gompertz, gompertz_log_likelihood, gompertz_tits
from simulators.ricker import great_tits, ricker, ricker_log_likelihood, ricker_summaries

from ..comparison.models.gaussians import MODELS, log_evidence

PAIRS = {
    "series": {"ricker": great_tits, "gompertz": gompertz_tits},
    "classic": {"ricker": ricker, "gompertz": gompertz},
}


def quicker(model: sf.Simulator, particles: int) -> sf.Simulator:
    """The same, with a likelihood estimated by fewer particles."""
    of = ricker_log_likelihood if "log_r" in model.prior.names else gompertz_log_likelihood

    def log_likelihood(theta: Any, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return of(theta, y, rng, particles=particles)

    parts = {"event_shape": model.event_shape, "summaries": ricker_summaries}
    return sf.Simulator(model.function, model.prior, log_likelihood=log_likelihood, **parts)


def compared(models: Any, y: Any, n: int, seed: int, epochs: int | None) -> sf.ModelComparison:
    """epochs: of two networks, instead of the package's own choice."""
    networks = sf.FitSettings()
    if epochs is not None:
        networks = sf.FitSettings(members=2, train=sf.TrainSettings(epochs=epochs, weight_decay=0.1))
    settings = sf.ModelChoiceSettings(networks=networks, evidence=False)
    return sf.compare_models(models, y, n_simulations=n, seed=seed, settings=settings)


def fresh(models: Any, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Data sets of every model, and the number of the model of each."""
    y = [sf.simulate(model, each, seed=seed + i).flat_y for i, model in enumerate(models.values())]
    return np.concatenate(y), np.repeat(np.arange(len(y)), each)


def factors(choice: sf.ModelComparison, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """log Bayes factors of the second model against the first, their errors, and how models look."""
    found = choice.predict(y)
    second = found[found["model"] == choice.names[1]]
    looks = [found[found["model"] == name]["looks_like"].tolist() for name in choice.names]
    columns = (second[name].to_numpy() for name in ("log_bayes_factor", "log_bayes_factor_error"))
    factor, error = columns
    return factor, error, looks


def calibration(choice: sf.ModelComparison) -> dict[str, Any]:
    test = choice.calibration_test
    inside = all(curve.inside for curve in test.curves)
    return {"n": test.n, "p": test.p, "inside": inside, "temperature": test.temperature, "gain": test.gain}


def gaussian(given: argparse.Namespace) -> dict[str, Any]:
    n, sets, seed = given.n, given.sets, given.seed
    y, _ = fresh(MODELS, sets // 2, 1000 + seed)
    began = time.monotonic()
    choice = compared(MODELS, y[0], n, seed, given.epochs)
    took = time.monotonic() - began
    factor, error, _ = factors(choice, y)
    exact = np.diff(log_evidence(y))[:, 0]
    off = np.abs(factor - exact)
    worst = int(off.argmax())
    bins = [(-5, 0), (0, 2), (2, 4), (4, 8), (8, 40)]
    by_size = {
        f"{low} to {high}": [int(k.sum()), float(off[k].mean()) if k.any() else None]
        for low, high in bins
        for k in [(exact >= low) & (exact < high)]
    }
    return {
        "sets": len(y), "mean": off.mean(), "median": np.median(off), "largest": off[worst],
        "exact_there": exact[worst], "by_exact_factor": by_size,
        "within_two_errors": (off < 2 * error).mean(),
        "calibration": calibration(choice), "seconds": took,
    }  # fmt: skip


def aliens(steps: int, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Series of counts that neither map makes."""
    t = np.arange(steps)
    season = np.exp(4 + 1.5 * np.sin(2 * np.pi * t / 9 + rng.uniform(0, 6, (count, 1))))
    growth = np.exp(1 + 0.15 * t * 27 / steps)
    walk = 100 + np.cumsum(rng.choice([-1, 1], (count, steps)), axis=1)
    blocks = np.repeat(rng.choice([20.0, 200.0], (count, steps // 9 + 1)), 9, axis=1)[:, :steps]
    return {
        "season": rng.poisson(season).astype(float),
        "growth": rng.poisson(np.broadcast_to(growth, (count, steps))).astype(float),
        "walk of plus or minus one": walk.astype(float),
        "two levels": rng.poisson(blocks).astype(float),
        "one outlier of 50 times": outlier(great_tits if steps == 27 else ricker, count),
    }


def outlier(simulator: Any, count: int) -> np.ndarray:
    y = sf.simulate(simulator, count, seed=77).flat_y.astype(float)
    y[:, y.shape[1] // 2] = 50 * y.max(axis=1) + 1000
    return y


def series(pair: str, given: argparse.Namespace) -> dict[str, Any]:
    n, sets, seed, draws = given.n, given.sets, given.seed, given.draws
    models = {name: quicker(model, given.particles) for name, model in PAIRS[pair].items()}
    y, truth = fresh(models, sets // 2, 2000 + seed)
    began = time.monotonic()
    choice = compared(models, y[0], n, seed, given.epochs)
    took = time.monotonic() - began
    factor, _, _ = factors(choice, y)
    strange = aliens(y.shape[1], 50, np.random.default_rng(seed))
    calls = {name: called(choice, rows) for name, rows in strange.items()}
    found = {
        "calibration": calibration(choice), "seconds": took, "alien_share_called": calls,
        "own_share_called": called(choice, y), "networks": np.mean((factor > 0) == truth),
        "verdict_of_first": choice.verdict.text,
    }  # fmt: skip
    print(json.dumps(found, default=float, indent=1), flush=True)
    banks, posteriors = proposals(models, n)
    exact, errors, kept, sure = [], [], [], []
    for i in np.random.default_rng(0).permutation(len(y)):
        asked = checked_models(models, y[i], banks, posteriors, None)
        evidence, _ = evidence_of_models(asked, banks, EvidenceRequest(100, draws, int(i)), Notes())
        if evidence is not None:
            value, error = evidence.log_bayes_factors(0)
            exact.append(value[1]), errors.append(error[1]), kept.append(i)
            sure.append(max(evidence.facts["k_hat"]) <= 0.7)
        if len(kept) % 20 == 0:
            done = compare(np.array(exact), np.array(errors), factor[kept], truth[kept])
            print(json.dumps(done, default=float), flush=True)
    columns = np.array(exact), np.array(errors), factor[kept], truth[kept]
    reliable = compare(*(column[np.array(sure)] for column in columns))
    return {**found, **compare(*columns), "where_k_hat_is_below_0.7": reliable}


def neither(given: argparse.Namespace) -> dict[str, Any]:
    """Series of neither map, with what detectors and predictions say of each."""
    models = {name: quicker(model, given.particles) for name, model in PAIRS["series"].items()}
    y, _ = fresh(models, given.sets // 2, 2000 + given.seed)
    choice = compared(models, y[0], given.n, given.seed, given.epochs)
    banks, posteriors = proposals(models, given.n)
    found = {}
    strange = aliens(y.shape[1], given.sets, np.random.default_rng(given.seed))
    for name, rows in {"own": y, **strange}.items():
        levels = []
        for i, one in enumerate(rows):
            asked = checked_models(models, one, banks, posteriors, None)
            request, notes = EvidenceRequest(100, given.draws, i), Notes()
            predicted = Predictions.of(asked, evidence_of_models(asked, banks, request, notes)[1], i, notes)
            detected = choice.likeness.verdicts(one[None])
            verdicts = {model: predicted.worsen(model, detected[model][0]) for model in models}
            levels.append(min((v.level for v in verdicts.values()), key=LEVELS.index))
        found[name] = {level: levels.count(level) for level in LEVELS}
        print(json.dumps({name: found[name]}), flush=True)
    return found


def proposals(models: Any, n: int) -> tuple[dict[str, sf.Simulations], dict[str, sf.Posterior]]:
    """Simulations, and small posteriors, of each model."""
    banks = {name: sf.simulate(model, n, seed=5 + i) for i, (name, model) in enumerate(models.items())}
    settings = sf.FitSettings(size="small", members=1, flow="nsf", train=sf.TrainSettings(epochs=20))
    fitted = {
        name: sf.fit(models[name], simulations=bank, seed=6, settings=settings, say=None)
        for name, bank in banks.items()
    }
    return banks, fitted


def called(choice: sf.ModelComparison, y: np.ndarray) -> dict[str, float]:
    """Shares of data sets that no model looks like, at caution and at do not trust."""
    looks = np.array(factors(choice, y)[2])
    return {
        "caution or worse": float((looks != "trust").all(axis=0).mean()),
        "do not trust": float((looks == "do not trust").all(axis=0).mean()),
    }


def compare(exact: np.ndarray, errors: np.ndarray, factor: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    right, by_exact = (factor > 0) == truth, (exact > 0) == truth
    return {
        "n": len(exact), "right_by_networks": right.mean(), "right_by_evidence": by_exact.mean(),
        "difference": right.mean() - by_exact.mean(),
        "error_of_difference": (right.astype(float) - by_exact).std() / np.sqrt(len(exact)),
        "same_choice": (right == by_exact).mean(), "mean_error_of_factor": np.abs(factor - exact).mean(),
        "median_error_of_factor": np.median(np.abs(factor - exact)), "monte_carlo_error": np.median(errors),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["gaussian", "neither", *PAIRS])
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--particles", type=int, default=1000)
    given = parser.parse_args()
    run = {"gaussian": gaussian, "neither": neither}.get(given.what)
    found = series(given.what, given) if run is None else run(given)
    print(json.dumps(found, default=float, indent=1))


if __name__ == "__main__":
    main()
