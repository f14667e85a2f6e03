"""How far apart two samples are: the classifier two-sample test and the sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F
from sbi_flows.diagnostics.perceptron import held_out_accuracies
from sbi_flows.errors import ShapeError

_LEAST, _PROJECTIONS = 20, 200


def c2st(reference: Float[np.ndarray, "n d"], draws: Float[np.ndarray, "m k"], *, seed: int = 1) -> float:
    """Mean held-out accuracy of a classifier that tells `draws` from `reference`: 0.5 if they cannot be told
    apart, 1 if they are disjoint.

    Lopez-Paz & Oquab (2017, 1610.06545) by the protocol of Lueckmann et al. (2021, 2101.04653): both z-scored
    by the reference, a perceptron with two hidden layers of 10 d units (`perceptron`), five folds. The null
    distribution is centred on 0.5 for equal sizes, so unequal ones are refused. Raises `ShapeError`.
    """
    from sklearn.model_selection import KFold

    _check(reference, draws)
    if len(reference) != len(draws):
        raise ShapeError(
            f"c2st needs two samples of equal size, got {len(reference)} and {len(draws)} draws; cut the "
            f"longer one."
        )
    mean, sd = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    rows = (np.concatenate([reference, draws]) - mean) / np.where(sd > 0, sd, 1.0)
    labels = np.repeat([0, 1], len(reference))
    folds = list(KFold(5, shuffle=True, random_state=seed).split(rows))
    return float(held_out_accuracies(rows, labels, folds, width=10 * rows.shape[1], seed=seed).mean())


def sliced_wasserstein(
    reference: Float[np.ndarray, "n d"], draws: Float[np.ndarray, "m k"], *, rng: np.random.Generator
) -> float:
    """Root mean square over 200 directions of the 2-Wasserstein distance of projections, in standard
    deviations of the reference.

    Bonneel et al. (2015): each projection onto a random unit vector is a one-dimensional problem solved by
    sorting. Raises `ShapeError`.
    """
    _check(reference, draws)
    mean, sd = reference.mean(axis=0), reference.std(axis=0)
    a, b = ((sample - mean) / np.where(sd > 0, sd, 1.0) for sample in (reference, draws))
    directions = rng.standard_normal((a.shape[1], _PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(min(len(a), len(b))) + 0.5) / min(len(a), len(b))
    apart = _quantiles(a @ directions, levels) - _quantiles(b @ directions, levels)
    return float(np.sqrt(np.square(apart).mean()))


def _quantiles(projected: F, levels: F) -> F:
    ordered = np.sort(projected, axis=0)
    return ordered if len(ordered) == len(levels) else np.quantile(ordered, levels, axis=0)


def _check(reference: F, draws: F) -> None:
    if reference.ndim != 2 or draws.ndim != 2 or reference.shape[1] != draws.shape[1]:
        raise ShapeError(
            f"expected two samples of shapes (n, d) and (m, d), got {reference.shape} and {draws.shape}."
        )
    if min(len(reference), len(draws)) < _LEAST:
        raise ShapeError(f"expected at least {_LEAST} draws each, got {len(reference)} and {len(draws)}.")
    if not (np.isfinite(reference).all() and np.isfinite(draws).all()):
        raise ShapeError("the samples hold NaN or infinite values.")
