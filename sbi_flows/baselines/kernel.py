"""Proposals that follow a weighted sample z_1, ..., z_n in R^u: a mixture of normals around its points.

    q(z) = sum_j w_j [ (1 - a) N(z; z_j, S_j) + a N(z; z_j, 2 S) ],   a = 0.1,
    S_j = sum over the nearest k of w_i (z_i - z_j)(z_i - z_j)' / sum of these w_i,   S the covariance of all

Beaumont, Cornuet, Marin & Robert (2009, Biometrika 96:983) take 2 S, which is best where the posterior is
near normal; the local S_j (Filippi, Barnes, Cornebise & Stumpf 2013, 12:87) follow one that is curved or has
several modes. The share of 2 S bounds the importance weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from sbi_flows.arrays import F

_WIDE, _NEAREST, _LEAST_NEAREST = 0.1, 5, 20
_JITTER = 1e-9
_STEP = 1.0
_ENTRIES = 2_000_000


@dataclass(frozen=True, eq=False)
class Kernel:
    """centres (n, u), weights (n,) with sum one; roots (n, u, u) and wide (u, u): the Cholesky factors of S_j
    and of 2 S.
    """

    centres: F
    weights: F
    roots: F
    wide: F

    @classmethod
    def around(cls, z: F, weights: F) -> Kernel:
        """Of a sample; points without weight are left out. The nearest are a fifth of the points, at least 20
        and 5 a coordinate.
        """
        z, weights = z[weights > 0], weights[weights > 0]
        weights = weights / weights.sum()
        centred = z - weights @ z
        covariance = (centred * weights[:, None]).T @ centred
        scale = np.sqrt(np.maximum(np.diag(covariance), np.finfo(np.float64).tiny))
        floor = np.diag(_JITTER * np.square(scale))
        count = min(len(z), max(_LEAST_NEAREST, 5 * z.shape[1], len(z) // _NEAREST))
        roots = np.empty((len(z), z.shape[1], z.shape[1]))
        rows = max(1, _ENTRIES // (len(z) * z.shape[1]))
        for start in range(0, len(z), rows):
            offsets = z[None] - z[start : start + rows, None]
            near = np.argpartition(np.square(offsets / scale).sum(axis=2), count - 1, axis=1)[:, :count]
            offsets = np.take_along_axis(offsets, near[:, :, None], axis=1)
            w = weights[near] / weights[near].sum(axis=1, keepdims=True)
            local = np.einsum("jk,jka,jkb->jab", w, offsets, offsets)
            roots[start : start + rows] = np.linalg.cholesky(local + floor)
        return cls(
            z, weights, roots, np.asarray(np.linalg.cholesky(2 * covariance + floor), dtype=np.float64)
        )

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, u)."""
        chosen = rng.choice(len(self.centres), n, p=self.weights)
        noise, wide = rng.standard_normal((n, self.centres.shape[1])), rng.random(n) < _WIDE
        steps = np.einsum("iab,ib->ia", self.roots[chosen], noise)
        return self.centres[chosen] + np.where(wide[:, None], noise @ self.wide.T, steps)

    def walk(self, z: F, rng: np.random.Generator) -> tuple[F, F]:
        """A step from each row of z (n, u), by the S_j of the nearest centre; and log q(z | z') - log q(z' |
        z).
        """
        here = self.roots[self._nearest(z)] * _STEP
        noise = rng.standard_normal(z.shape)
        moved = z + np.einsum("iab,ib->ia", here, noise)
        there = self.roots[self._nearest(moved)] * _STEP
        back = np.linalg.solve(there, (z - moved)[:, :, None])[:, :, 0]
        log_dets = [np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1) for roots in (here, there)]
        ratio = 0.5 * (np.square(noise) - np.square(back)).sum(axis=1) + log_dets[0] - log_dets[1]
        return moved, ratio

    def _nearest(self, z: F) -> NDArray[np.intp]:
        whiten = np.linalg.inv(self.wide).T
        return np.asarray(cKDTree(self.centres @ whiten).query(z @ whiten)[1])

    def log_prob(self, z: F) -> F:
        """log q of each row of z (n, u).

        The squares come from one product of matrices, whose rounding is below 1e-6 even for clusters a
        millionth as wide as what lies between them.
        """
        u = z.shape[1]
        mean, scale = self.weights @ self.centres, np.sqrt(np.square(self.wide).sum(axis=1))
        centres, z = (self.centres - mean) / scale, (z - mean) / scale
        inverse = np.linalg.inv(self.roots / scale[:, None])
        precisions = np.einsum("jba,jbc->jac", inverse, inverse)
        linear = np.einsum("jab,jb->ja", precisions, centres)
        constant = np.einsum("ja,ja->j", linear, centres)
        forms = np.concatenate(
            [precisions.reshape(len(centres), u * u), -2 * linear, constant[:, None]], axis=1
        )
        log_dets = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        whiten = np.linalg.inv(self.wide / scale[:, None]).T
        wide_centres, wide_log_det = centres @ whiten, float(np.log(np.diag(self.wide)).sum())
        wide_squares = np.square(wide_centres).sum(axis=1)
        out, rows = np.empty(len(z)), max(1, _ENTRIES // len(centres))
        for start in range(0, len(z), rows):
            part = z[start : start + rows]
            products = (part[:, :, None] * part[:, None]).reshape(len(part), u * u)
            terms = np.concatenate([products, part, np.ones((len(part), 1))], axis=1)
            near = np.log(1 - _WIDE) - 0.5 * np.maximum(terms @ forms.T, 0) - log_dets
            there = part @ whiten
            away = np.square(there).sum(axis=1)[:, None] - 2 * there @ wide_centres.T + wide_squares
            far = np.log(_WIDE) - 0.5 * np.maximum(away, 0) - wide_log_det
            out[start : start + rows] = logsumexp(np.logaddexp(near, far) + np.log(self.weights), axis=1)
        return np.asarray(out - 0.5 * u * np.log(2 * np.pi))
