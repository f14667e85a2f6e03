"""Our classifier two-sample test beside one by scikit-learn's `MLPClassifier`: `python -m
tests.benchmarks.two_sample [--draws 2000] [--pairs 3]`. Not run by pytest.

Both score the same samples, in 2, 5 and 10 dimensions: N(0, I) against N(a, I), both bent by x_1 -> x_1 +
x_2^2 / 2, with a such that the best classifier is right with probability 0.5, 0.6 and 0.8. Printed: both
scores, and seconds of processor time. At the end the mean of the paired differences, its error and their sd,
beside the sampling error of one score, sqrt(p (1 - p) / 2n), and the ratio of the times.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier

from sbi_flows.diagnostics.distances import c2st
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]


def c2st_by_sklearn(reference: F, draws: F, *, seed: int = 1) -> float:
    """The same statistic by scikit-learn, in float64."""
    mean, sd = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    rows, labels = (np.concatenate([reference, draws]) - mean) / sd, np.repeat([0, 1], len(reference))
    width, scores = 10 * rows.shape[1], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, test in KFold(5, shuffle=True, random_state=seed).split(rows):
            classifier = MLPClassifier((width, width), max_iter=10_000, random_state=seed)
            scores.append(classifier.fit(rows[train], labels[train]).score(rows[test], labels[test]))
    return float(np.mean(scores))


def samples(d: int, best: float, n: int, rng: np.random.Generator) -> tuple[F, F]:
    """Two samples (n, d) that the best classifier tells apart with accuracy `best`."""
    reference, draws = rng.standard_normal((2, n, d))
    draws += 2 * norm.ppf(best) / np.sqrt(d)
    for sample in (reference, draws):
        sample[:, 0] += np.square(sample[:, 1]) / 2
    return reference, draws


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3, help="of each dimension and accuracy")
    parser.add_argument(
        "--dimensions", type=lambda text: [int(d) for d in text.split(",")], default=[2, 5, 10]
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, found, took = np.random.default_rng(1), [], []
    for d in options.dimensions:
        for best in (0.5, 0.6, 0.8):
            for _ in range(options.pairs):
                pair = samples(d, best, options.draws, rng)
                began = time.process_time()
                ours = c2st(*pair)
                between = time.process_time()
                theirs = c2st_by_sklearn(*pair)
                took.append((between - began, time.process_time() - between))
                found.append((ours, theirs))
                print(
                    f"d = {d:2}, best {best}: ours {ours:.4f}, scikit-learn {theirs:.4f}, difference "
                    f"{ours - theirs:+.4f}; {took[-1][0]:.1f} s and {took[-1][1]:.1f} s",
                    flush=True,
                )
    scores = np.array(found)
    gaps = scores[:, 0] - scores[:, 1]
    p = scores.mean(axis=1)
    print(
        f"{len(gaps)} pairs of {options.draws:,} draws: mean difference {gaps.mean():+.5f} +- "
        f"{gaps.std(ddof=1) / np.sqrt(len(gaps)):.5f}, sd {gaps.std(ddof=1):.4f}, largest "
        f"{np.abs(gaps).max():.4f}; "
        f"sampling error of one score {np.sqrt(p * (1 - p) / (2 * options.draws)).mean():.4f}; "
        f"{np.array(took)[:, 1].sum() / np.array(took)[:, 0].sum():.2f} times as fast"
    )


if __name__ == "__main__":
    main()
