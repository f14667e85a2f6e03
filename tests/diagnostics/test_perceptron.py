"""The classifier of the two-sample test against scikit-learn's, which draws the same random numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier

from sbi_flows.diagnostics.distances import c2st
from sbi_flows.diagnostics.perceptron import fit, held_out_accuracies
from tests.benchmarks.two_sample import c2st_by_sklearn, samples


def rows_and_labels(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = samples(d, 0.7, (n + 1) // 2, np.random.default_rng(3))
    return np.concatenate([first, second])[:n], np.repeat([0, 1], (n + 1) // 2)[:n]


@pytest.mark.parametrize(("n", "d", "epochs"), [(1000, 3, 7), (1017, 2, 5), (150, 2, 10), (600, 2, 10_000)])
def test_in_float64_the_weights_are_those_of_scikit_learn(n: int, d: int, epochs: int) -> None:
    """Last batches of 200, 17 and 150 rows; the last case runs until both stop by themselves."""
    rows, labels = rows_and_labels(n, d)
    order = np.random.default_rng(1).permutation(n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        wanted = MLPClassifier((10 * d, 10 * d), max_iter=epochs, random_state=4).fit(
            rows[order], labels[order]
        )
    (found,) = fit(rows, labels, order[None], 10 * d, 4, dtype=torch.float64, max_epochs=epochs)
    for (matrix, offset), coefs, intercepts in zip(found, wanted.coefs_, wanted.intercepts_, strict=True):
        np.testing.assert_allclose(matrix, coefs, atol=1e-9)
        np.testing.assert_allclose(offset, intercepts, atol=1e-9)


def test_folds_trained_together_are_those_trained_alone() -> None:
    """They stop at different epochs; 524 rows make folds of two sizes; values beyond 10^6 take float64."""
    rows, labels = rows_and_labels(523, 2)
    rows = np.concatenate([rows, [[2e6, 0.0]]])
    labels = np.append(labels, 1)
    folds = list(KFold(5, shuffle=True, random_state=2).split(rows))
    epochs, wanted = set(), []
    for train, test in folds:
        classifier = MLPClassifier((20, 20), max_iter=10_000, random_state=2).fit(rows[train], labels[train])
        epochs.add(classifier.n_iter_)
        wanted.append(classifier.score(rows[test], labels[test]))
    assert len(epochs) > 1
    assert held_out_accuracies(rows, labels, folds, width=20, seed=2).tolist() == wanted


@pytest.mark.parametrize("best", [0.5, 0.6, 0.8])
def test_in_float32_the_score_is_scikit_learns_within_its_sampling_error(best: float) -> None:
    """Both learn from the same rows in the same order, so that the difference has an sd below that of one
    score over 1,000 rows, sqrt(p (1 - p) / 1000) <= 0.016: 3.9 of these are exceeded with probability 1e-4.
    """
    pair = samples(2, best, 500, np.random.default_rng(7))
    assert c2st(*pair) == pytest.approx(c2st_by_sklearn(*pair), abs=3.9 * np.sqrt(best * (1 - best) / 1000))
