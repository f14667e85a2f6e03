"""How narrow the posterior of a bounded parameter is, before anything is trained.

    gap_j = |x_j(i) - x_j(nearest(i))|,   x in [-1, 1] the position in the prior's interval,
    nearest(i) the simulation whose scaled data are nearest to those of simulation i

Half of the gaps between independent draws of a normal posterior with standard deviation s are below 0.95 s, a
quarter below 0.45 s. The quarter is taken, because in a posterior of two far modes half of the gaps lie
between the modes. An edge of about one standard deviation is as sharp as it can be: at a quarter of that, a
third of the draws of a posterior that is cut off by the bound gathered within 1e-4 of it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from sbi_flows.arrays import F

CONTRACTION_ROWS = 2_000
_QUANTILE = 0.25
_NARROW, _LEAST_EDGE = 0.1, 0.01


def soft_edges(
    logits: Float[np.ndarray, "n d"], bounded: Bool[np.ndarray, " d"], data: Float[np.ndarray, "n m"]
) -> F:
    """The edge of `flows.natural` for each coordinate, (d,): twice the quarter point of its gaps, at least
    0.01, where that point is below 0.1; 0 elsewhere, and where it is not bounded.

    logits: the unconstrained coordinates; of bounded ones the logit of the position. data: scaled, one row
    per simulation.
    """
    x = np.tanh(logits[:CONTRACTION_ROWS] / 2)
    data = data[:CONTRACTION_ROWS]
    nearest = cKDTree(data).query(data, k=2)[1][:, 1]
    quarter = np.quantile(np.abs(x - x[nearest]), _QUANTILE, axis=0)
    return np.where(bounded & (quarter < _NARROW), np.maximum(2 * quarter, _LEAST_EDGE), 0.0)
