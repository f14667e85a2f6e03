"""Several stochastic layers: the prior of z_1 is itself a latent variable model, and so on. After Rezende et
al. (2014), 1401.4082.

    z_L ~ N(0, I),  z_l ~ N(m(z_{l+1}), s(z_{l+1})),  x ~ p(x | decoder(z_1))
    q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1})
    log p(z_l) >= log p(z_l | z_{l+1}) + log p(z_{l+1}) - log q(z_{l+1} | z_l),     z_{l+1} ~ q

One draw from each upper layer stands in for log p(z_1), which leaves the bound a bound and importance weights
unbiased. Without a warm-up the upper layers are seldom used (Sønderby et al. 2016, 1602.02282).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sbi_flows.arrays import F, integer
from sbi_flows.errors import SettingsError
from sbi_flows.files import Manifest
from sbi_flows.flows.conditional import log_standard_normal
from sbi_flows.flows.sampling import build_sampling_flow
from sbi_flows.nets.vector import VectorSummary
from sbi_flows.vae.likelihoods import Gaussian
from sbi_flows.vae.model import VAE
from sbi_flows.vae.network import Decoder, Encoder, LearnedPrior
from sbi_flows.vae.settings import VAESettings


class StochasticLayer(LearnedPrior):
    """The prior of z below, sizes[0] numbers: a layer of sizes[1] numbers, and the layers of the rest above
    it.
    """

    placed = True

    def __init__(self, sizes: Sequence[int], encoder: str, settings: VAESettings) -> None:
        super().__init__()
        below, own, *rest = sizes
        features = settings.summary_features or 2 * own
        flow = build_sampling_flow(encoder, own, features, width=settings.flow_width, layers=settings.layers)
        self.encoder = Encoder(
            VectorSummary(below, features, settings.width), flow, below, gaussian="", counts=False
        )
        self.decoder = Decoder(VectorSummary(own, 2 * below, settings.width), Gaussian(sd="network"), below)
        self.above = StochasticLayer(sizes[1:], encoder, settings) if rest else None
        self.noise_width: int = own + (self.above.noise_width if self.above else 0)

    def log_prob(
        self, z: Float[Tensor, "*rows d"], noise: Float[Tensor, "*rows w"]
    ) -> Float[Tensor, "*rows"]:
        """log p(z), or rather the log weight of one draw of what is above it, in nats."""
        own = self.encoder.flow.d
        flat, given = z.reshape(-1, z.shape[-1]), noise.reshape(-1, noise.shape[-1])
        up, log_q = self.encoder.draw(self.encoder.context(flat), given[:, None, :own])
        if self.above is None:
            log_prior = log_standard_normal(up)
        else:
            log_prior = self.above.log_prob(up, given[:, None, own:])
        return (self.decoder.log_prob(flat[:, None], up) + log_prior - log_q).reshape(z.shape[:-1])

    def draw(self, n: int, rng: np.random.Generator) -> F:
        """n draws of the z below, (n, d)."""
        up = self.above.draw(n, rng) if self.above else rng.standard_normal((n, self.encoder.flow.d))
        with torch.no_grad():
            out = self.decoder(torch.from_numpy(up)).numpy()
        return self.decoder.likelihood.sample(out, np.zeros(0), rng)

    def mean_above(self, z: Tensor) -> list[Tensor]:
        """E[z_l | z_{l-1}] of each layer above, each at the mean of the one below, by noise 0 (the mode of a
        Gaussian q).
        """
        up, _ = self.encoder.draw(self.encoder.context(z), z.new_zeros(len(z), 1, self.encoder.flow.d))
        return [up[:, 0], *(self.above.mean_above(up[:, 0]) if self.above else [])]


class HierarchicalVAE(VAE):
    """A `VAE` with latent numbers (d_1, ..., d_L) in two or more layers, d_1 next to the data; the other
    arguments are those of `VAE`.

    `encode`, `decode` and `latent_mean` are those of the first layer; the upper layers have the same kind of
    encoder.
    """

    # Weights that decay put the numbers of the upper layers out of use before they have found one.
    _undecayed = (*VAE._undecayed, "prior.")

    def __init__(self, *, latent: Sequence[int], **options: Any) -> None:
        if isinstance(latent, str) or not isinstance(latent, Sequence) or len(latent) < 2:
            raise SettingsError(
                f"latent must be the sizes of two or more layers, such as (8, 4), got {latent!r}."
            )
        self.sizes = tuple(integer("latent", size) for size in latent)
        super().__init__(latent=self.sizes[0], **options)

    def record(self) -> Manifest:
        """All that is not a weight, as JSON."""
        return {**super().record(), "sizes": list(self.sizes)}

    def means_above(self, x: ArrayLike) -> list[F]:
        """For each row, where q puts each layer above the first, [(rows, d_2), ...]: each from the one
        below.
        """
        with torch.no_grad():
            return [up.numpy() for up in self._layer.mean_above(torch.from_numpy(self.latent_mean(x)))]

    def active_units_above(self, x: ArrayLike, least: float = 0.01) -> list[NDArray[np.bool_]]:
        """Which numbers of each layer above the first vary with x by more than `least` in variance."""
        return [np.asarray(mean.var(axis=0) > least) for mean in self.means_above(x)]

    @property
    def _layer(self) -> StochasticLayer:
        prior = self.module.prior
        if not isinstance(prior, StochasticLayer):
            raise TypeError("a HierarchicalVAE's prior is a StochasticLayer")
        return prior

    def _prior(self) -> LearnedPrior:
        return StochasticLayer(self.sizes, self.encoder, self.settings)

    def _prior_draws(self, n: int, rng: np.random.Generator) -> F:
        return self._layer.draw(n, rng)
