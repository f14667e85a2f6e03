"""Clustering in latent space: a Gaussian mixture with full covariances as the prior. After Jiang et al.
(2017), 1611.05148.

    c ~ pi,  z ~ N(m_c, S_c),  x ~ p(x | decoder(z)),     p(z) = sum_c pi_c N(z; m_c, S_c)
    q(c | x) = E_q(z | x)[p(c | z)]

The cluster is summed over exactly, so the bound is that of an autoencoder with p(z) instead of N(0, I). It is
fitted in three steps: an autoencoder with the prior N(0, I); a mixture fitted to E[z | x] by expectation
maximisation, each S_c widened by the mean covariance of q(z | x), so that p(z) covers what q draws; both
together. Components are stored by the inverse U_c of their Cholesky factor: log N = log det U_c - |U_c (z -
m_c)|^2 / 2 - d log(2 pi) / 2.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sbi_flows.arrays import F, integer, rows_of
from sbi_flows.errors import SettingsError
from sbi_flows.files import Manifest
from sbi_flows.flows.conditional import log_standard_normal
from sbi_flows.rng import stream
from sbi_flows.training.history import History
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.fitting import FitOptions, restored_on_error
from sbi_flows.vae.model import VAE
from sbi_flows.vae.network import LearnedPrior

_STARTS, _DRAWS = 10, 64
_LEAST_VARIANCE = 1e-4
_TUNING_RATE, _TUNING_DECAY = 5e-4, 0.1


class Mixture(LearnedPrior):
    """p(z) with `clusters` components. Until it is `placed` they are all N(0, I), and so is the whole."""

    placed: Tensor
    noise_width = 0

    def __init__(self, clusters: int, d: int) -> None:
        super().__init__()
        self.d = d
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.means = nn.Parameter(torch.zeros(clusters, d))
        self.below = nn.Parameter(torch.zeros(clusters, d, d))
        self.log_diagonals = nn.Parameter(torch.zeros(clusters, d))
        self.register_buffer("placed", torch.tensor(False))

    def factors(self) -> Float[Tensor, "clusters d d"]:
        """U_c, lower triangular."""
        return torch.tril(self.below, -1) + torch.diag_embed(self.log_diagonals.exp())

    def log_joint(self, z: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows clusters"]:
        """log pi_c + log N(z; m_c, S_c)."""
        noise = torch.einsum("cij,...cj->...ci", self.factors(), z[..., None, :] - self.means)
        log_normal = self.log_diagonals.sum(dim=1) + log_standard_normal(noise)
        return torch.log_softmax(self.logits, dim=0) + log_normal

    def log_prob(self, z: Float[Tensor, "*rows d"], noise: Tensor | None = None) -> Float[Tensor, "*rows"]:
        """log p(z) in nats; it needs no noise."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def place(self, z: F, seed: int) -> None:
        """Fit the components to the means of draws z (n, draws, d), the best of ten starts, and widen
        them.
        """
        from sklearn.mixture import GaussianMixture

        state = int(stream(seed, "mixture").integers(2**32))
        means = z.mean(axis=1)
        offsets = z - means[:, None]
        within = np.einsum("nsi,nsj->ij", offsets, offsets) / (len(z) * (z.shape[1] - 1))
        found = GaussianMixture(
            len(self.logits), n_init=_STARTS, reg_covar=_LEAST_VARIANCE, random_state=state
        ).fit(means)
        inverse = np.linalg.inv(np.linalg.cholesky(found.covariances_ + within))
        with torch.no_grad():
            self.logits.copy_(torch.from_numpy(np.log(found.weights_)))
            self.means.copy_(torch.from_numpy(found.means_))
            self.below.copy_(torch.from_numpy(np.tril(inverse, -1)))
            self.log_diagonals.copy_(torch.from_numpy(np.log(np.diagonal(inverse, axis1=1, axis2=2))))
            self.placed.fill_(True)

    def draw(self, n: int, rng: np.random.Generator) -> F:
        """n draws of z, (n, d)."""
        with torch.no_grad():
            weights = torch.softmax(self.logits.double(), dim=0).numpy()
            of = torch.from_numpy(rng.choice(len(weights), n, p=weights / weights.sum()))
            noise = torch.from_numpy(rng.standard_normal((n, self.d, 1)))
            moved = torch.linalg.solve_triangular(self.factors().double()[of], noise, upper=False)[..., 0]
            return np.asarray((self.means.double()[of] + moved).numpy())


class ClusterVAE(VAE):
    """A `VAE` whose prior is a Gaussian mixture of `clusters` components; the other arguments are those of
    `VAE`.
    """

    def __init__(self, *, clusters: int, **options: Any) -> None:
        self.clusters = integer("clusters", clusters)
        super().__init__(**options)

    def fit(
        self,
        x_train: ArrayLike,
        x_valid: ArrayLike | None = None,
        *,
        tuning_epochs: int = 100,
        **options: Unpack[FitOptions],
    ) -> History:
        """Fit with the prior N(0, I) for `epochs` (300), place the clusters, then fit all for
        `tuning_epochs`, none if 0.

        Options are those of `VAE.fit`; all but frozen and progress apply to the first fit only, `checkpoint`
        too. A second call tunes further with the clusters where they are, and takes no others. Raises
        `SettingsError` for fewer rows than clusters, besides what `VAE.fit` raises.
        """
        tuning_epochs = integer("tuning_epochs", tuning_epochs, 0)
        n = len(rows_of(x_train, self.event_shape, "x_train"))
        placed = self._module is not None and self.module.learned_prior is not None
        frozen, progress = options.get("frozen"), options.get("progress")
        of_the_first = [name for name in options if name not in ("frozen", "progress")]
        if placed and of_the_first:
            raise SettingsError(
                "the clusters have been placed: fit now tunes them, and has no use for "
                f"{', '.join(of_the_first)}. Pass tuning_epochs."
            )
        if not placed and n < self.clusters:
            raise SettingsError(
                f"{self.clusters} clusters need at least as many rows, got {n}. Pass fewer clusters or more "
                f"rows."
            )
        with restored_on_error(self, self._module, self._decoder):
            if not placed:
                super().fit(x_train, x_valid, **options)
                self.mixture.place(self.encode(x_train, _DRAWS, seed=self.seed), self.seed)
            if tuning_epochs:
                settings = TrainSettings(
                    batch_size=64,
                    learning_rate=_TUNING_RATE,
                    weight_decay=_TUNING_DECAY,
                    patience=tuning_epochs,
                )
                super().fit(
                    x_train,
                    x_valid,
                    epochs=tuning_epochs,
                    frozen=frozen,
                    progress=progress,
                    train_settings=settings,
                )
        return self.history

    def record(self) -> Manifest:
        """All that is not a weight, as JSON."""
        return {**super().record(), "clusters": self.clusters}

    def responsibilities(self, x: ArrayLike, n: int = 64, *, seed: int = 0) -> F:
        """q(c | x) for each row, (rows, clusters), from n draws of z."""
        with torch.no_grad():
            log_joint = self.mixture.log_joint(torch.from_numpy(self.encode(x, n, seed=seed)))
        return torch.softmax(log_joint, dim=-1).mean(dim=1).numpy()

    def assign(self, x: ArrayLike) -> NDArray[np.int64]:
        """The most probable cluster of each row, (rows,)."""
        return np.asarray(self.responsibilities(x).argmax(axis=1), dtype=np.int64)

    @property
    def mixture(self) -> Mixture:
        """The prior."""
        prior = self.module.prior
        if not isinstance(prior, Mixture):
            raise TypeError("a ClusterVAE's prior is a Mixture")
        return prior

    def _prior(self) -> LearnedPrior:
        return Mixture(self.clusters, self.latent)

    def _prior_draws(self, n: int, rng: np.random.Generator) -> F:
        return self.mixture.draw(n, rng)
