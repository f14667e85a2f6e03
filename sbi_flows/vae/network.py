"""The two networks of a variational autoencoder, and the terms of its bound.

    p(x, z) = N(z; 0, I) p(x | decoder(z)),     q(z | x) = flow(z | s(x))
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || N(0, I))

For a flow z_K = T^-1(e; s(x)) of K steps, log q = log N(e; 0, I) - sum_k log |det_k|, each Jacobian at
z_{k-1}, where its step starts. The bound is then

    E_e[log p(x, z_K) - log N(e; 0, I) + sum_k log |det_k|]

For a Gaussian q the KL is computed in closed form. Kingma & Welling (2014), 1312.6114; Rezende & Mohamed
(2015), 1505.05770.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.arrays import F, spread
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.flows.conditional import ConditionalFlow, log_standard_normal
from sbi_flows.vae.likelihoods import Likelihood


class Encoder(nn.Module):
    """q(z | x): a summary network and a conditional flow, of the same classes as q(theta | y).

    gaussian: "diagonal" or "full_rank" where q is a Gaussian of that kind, else "".
    counts: whether x is transformed to log(1 + x) first.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, summary: nn.Module, flow: ConditionalFlow, m: int, *, gaussian: str, counts: bool
    ) -> None:
        super().__init__()
        self.summary, self.flow = summary, flow
        self.gaussian, self.counts = gaussian, counts
        self.register_buffer("centre", torch.zeros(m))
        self.register_buffer("scale", torch.ones(m))

    def seen(self, x: Float[Tensor, "rows m"]) -> Float[Tensor, "rows m"]:
        """x, or log(1 + x): what is standardised for the summary network."""
        return torch.log1p(x) if self.counts else x

    def context(self, x: Float[Tensor, "rows m"]) -> Float[Tensor, "rows k"]:
        """s(x)."""
        out: Tensor = self.summary((self.seen(x) - self.centre) / self.scale)
        return out

    def draw(
        self, context: Float[Tensor, "rows k"], noise: Float[Tensor, "rows n d"]
    ) -> tuple[Float[Tensor, "rows n d"], Float[Tensor, "rows n"]]:
        """n differentiable draws z per context, and log q(z | x)."""
        return self.flow.draw(noise, context[:, None])

    def kl(self, context: Float[Tensor, "rows k"]) -> Float[Tensor, "rows parts"]:
        """KL(q || N(0, I)) where q is Gaussian."""
        return gaussian_kl(self.flow, self.gaussian, context)


def gaussian_kl(
    flow: ConditionalFlow, kind: str, context: Float[Tensor, "rows k"]
) -> Float[Tensor, "rows parts"]:
    """KL(q || N(0, I)) in closed form: d parts for a "diagonal" Gaussian, one part for a "full_rank" one.

    A Gaussian flow is the affine map z = m + L e. Its values at 0 and at the unit vectors give m and L, and
    KL = (|m|^2 + |L|^2 - d) / 2 - log det L.
    """
    d = flow.d
    unit = torch.ones(1, d) if kind == "diagonal" else torch.eye(d)
    points = torch.cat([torch.zeros(1, d), unit]).to(context)
    images, log_det = flow.to_value(points.expand(len(context), -1, -1), context[:, None])
    mean, columns = images[:, 0], images[:, 1:] - images[:, :1]
    if kind == "diagonal":
        sd = columns[:, 0]
        return 0.5 * (mean.square() + sd.square() - 1) - torch.log(sd)
    return (0.5 * (mean.square().sum(dim=1) + columns.square().sum(dim=(1, 2)) - d) - log_det[:, 0])[:, None]


class Decoder(nn.Module):
    """p(x | z): a network with outputs in the units of the data, and a likelihood with its own parameters."""

    centre: Tensor
    scale: Tensor
    free: Tensor

    def __init__(self, net: nn.Module, likelihood: Likelihood, m: int) -> None:
        super().__init__()
        self.net, self.likelihood, self.m = net, likelihood, m
        if likelihood.free(m):
            self.free = nn.Parameter(torch.zeros(likelihood.free(m)))
        else:
            self.register_buffer("free", torch.zeros(0), persistent=False)
        self.register_buffer("centre", torch.zeros(likelihood.heads, m))
        self.register_buffer("scale", torch.ones(likelihood.heads, m))

    def forward(self, z: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows heads m"]:
        """The likelihood's parameters."""
        out: Tensor = self.net(z.reshape(-1, z.shape[-1]))
        return out.reshape(*z.shape[:-1], self.likelihood.heads, self.m) * self.scale + self.centre

    def log_prob(self, x: Float[Tensor, "*#rows m"], z: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
        """log p(x | z) in nats."""
        return self.likelihood.log_prob(x, self(z), self.free)

    def set_units(self, start: tuple[F, F, F], *, own: bool) -> None:
        """Set the units of the outputs, from `Likelihood.start`; those of a user's own module stay."""
        centre, scale, free = map(torch.from_numpy, start)
        with torch.no_grad():
            self.free.copy_(free)
            if not own:
                self.centre.copy_(centre)
                self.scale.copy_(scale)

    def mean(self, z: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows m"]:
        """E[x | z]; the most probable class where x is categorical."""
        return self.likelihood.mean(self(z), self.free)


class Terms(NamedTuple):
    """log p(x | z), log p(z), log q(z | x) per draw, (rows, n); kl (rows, parts) in closed form, or None."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_q: Tensor
    kl: Tensor | None


class LearnedPrior(nn.Module, ABC):
    """p(z) where it is not N(0, I).

    placed: whether it is in use; until then p(z) = N(0, I). noise_width: random numbers per draw.
    """

    placed: Tensor | bool
    noise_width: int

    @abstractmethod
    def log_prob(
        self, z: Float[Tensor, "*rows d"], noise: Float[Tensor, "*rows w"]
    ) -> Float[Tensor, "*rows"]:
        """log p(z) in nats, or an unbiased estimate of p(z) from noise, as its logarithm."""


class Autoencoder(nn.Module):
    """Encoder, decoder, and prior; None is N(0, I)."""

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: LearnedPrior | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior

    @property
    def learned_prior(self) -> LearnedPrior | None:
        """The prior in use, None where p(z) = N(0, I)."""
        return self.prior if self.prior is not None and self.prior.placed else None

    @property
    def noise_width(self) -> int:
        """Random numbers per draw."""
        prior = self.learned_prior
        return self.encoder.flow.d + (prior.noise_width if prior else 0)

    def shift(self, by: Float[Tensor, " m"]) -> None:
        """Turn the model of x into that of x + by, where the likelihood's first head is a mean."""
        self.encoder.centre.add_(by)
        self.decoder.centre[0].add_(by)

    def forward(self, x: Float[Tensor, "rows m"], noise: Float[Tensor, "rows n w"]) -> Terms:
        """The terms of the bound; each row of noise gives one draw."""
        noise, for_prior = noise.tensor_split([self.encoder.flow.d], dim=-1)
        context, prior = self.encoder.context(x), self.learned_prior
        z, log_q = self.encoder.draw(context, noise)
        kl = None if prior or not self.encoder.gaussian else self.encoder.kl(context)
        log_prior = prior.log_prob(z, for_prior) if prior else log_standard_normal(z)
        return Terms(self.decoder.log_prob(x[:, None], z), log_prior, log_q, kl)


def set_seen_units(reader: nn.Module, seen: Float[np.ndarray, "rows m"], *, each: bool) -> None:
    """Set a network's standardisation of its input: per element, or one scale for all."""
    sd = spread(seen if each else seen.reshape(-1, 1))
    parts = {"centre": seen.mean(axis=0), "scale": np.where(sd > 0, sd, 1.0)}
    with torch.no_grad():
        for name, value in parts.items():
            reader.get_buffer(name).copy_(torch.from_numpy(np.broadcast_to(value, seen.shape[1:]).copy()))


def check_decoder(net: nn.Module, latent: int, heads: int, m: int) -> None:
    """Try a user's decoder. Raises `SettingsError` if it fails, `ShapeError` for an output of wrong shape."""
    wanted = f"(rows, {latent}) to (rows, {heads}, {m})"
    out = tried("decoder", net, wanted, torch.zeros(2, latent, dtype=torch.float64))
    if out.shape[:1] != (2,) or out.numel() != 2 * heads * m:
        raise ShapeError(
            f"decoder must take {wanted}: (2, {heads}, {m}) for two rows, got {tuple(out.shape)}."
        )


def tried(name: str, module: nn.Module, wanted: str, *zeros: Tensor) -> Tensor:
    """A user's module applied to two rows of zeros. Raises `SettingsError` if it fails, `ShapeError` if its
    output is not a tensor.
    """
    try:
        with torch.no_grad():
            out = module(*zeros)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SettingsError(
            f"{name} must take {wanted}; on two rows of zeros it failed ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(out, Tensor):
        raise ShapeError(f"{name} must take {wanted}, got {type(out).__name__}.")
    return out
