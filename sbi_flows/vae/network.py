"""The two networks of a variational autoencoder, and the terms of its bound.

    p(x, z) = N(z; 0, I) p(x | decoder(z)),     q(z | x) = flow(z | s(x))
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || N(0, I))

For a flow z = T^-1(e; s(x)), log q = log N(e) - log |det dz/de|: the bound of the talk, E_e[log p(x, z_K) -
log N(e) + sum_k log |det_k|], each log |det_k| at z_{k-1}, where its step starts. For a Gaussian q the KL has
a closed form, which is used. Kingma & Welling (2014), 1312.6114; Rezende & Mohamed (2015), 1505.05770.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.arrays import F, spread
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.vae.likelihoods import Likelihood

_LOG_2PI = math.log(2 * math.pi)


class Encoder(nn.Module):
    """q(z | x): a summary network and a conditional flow, the classes that q(theta | y) is made of.

    gaussian: "diagonal" or "full_rank" where q is a Gaussian of that kind, else "". counts: x is brought to
    log(1 + x) first.
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
        """x as the summary network takes it, before centre and scale."""
        return torch.log1p(x) if self.counts else x

    def context(self, x: Float[Tensor, "rows m"]) -> Float[Tensor, "rows k"]:
        """s(x)."""
        out: Tensor = self.summary((self.seen(x) - self.centre) / self.scale)
        return out

    def draw(
        self, context: Float[Tensor, "rows k"], noise: Float[Tensor, "rows n d"]
    ) -> tuple[Float[Tensor, "rows n d"], Float[Tensor, "rows n"]]:
        """n draws z for each context, and log q(z | x), differentiable."""
        return self.flow.draw(noise, context[:, None])

    def kl(self, context: Float[Tensor, "rows k"]) -> Float[Tensor, "rows parts"]:
        """KL(q || N(0, I)) where q is Gaussian."""
        return gaussian_kl(self.flow, self.gaussian, context)


def gaussian_kl(
    flow: ConditionalFlow, kind: str, context: Float[Tensor, "rows k"]
) -> Float[Tensor, "rows parts"]:
    """KL(q || N(0, I)) in closed form, for each dimension of a "diagonal" Gaussian, in one part for a
    "full_rank" one.

    A Gaussian flow is the affine map z = m + L e, so its images of 0 and of the unit vectors are all that
    there is to know: KL = (|m|^2 + |L|^2 - d) / 2 - log det L.
    """
    d = flow.d
    unit = torch.ones(1, d) if kind == "diagonal" else torch.eye(d)
    places = torch.cat([torch.zeros(1, d), unit]).to(context)
    images, log_det = flow.to_value(places.expand(len(context), -1, -1), context[:, None])
    mean, columns = images[:, 0], images[:, 1:] - images[:, :1]
    if kind == "diagonal":
        sd = columns[:, 0]
        return 0.5 * (mean.square() + sd.square() - 1) - torch.log(sd)
    return (0.5 * (mean.square().sum(dim=1) + columns.square().sum(dim=(1, 2)) - d) - log_det[:, 0])[:, None]


class Decoder(nn.Module):
    """p(x | z): a network, whose outputs are scaled to the data's units, and a likelihood with its free
    numbers.
    """

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
        """Give values in the units of the data, from `Likelihood.start`; a module of the user's own is in
        them already.
        """
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
    """log p(x | z), log p(z) and log q(z | x) of each draw (rows, n), and the KL in closed form (rows, parts)
    where there is one.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_q: Tensor
    kl: Tensor | None


class Autoencoder(nn.Module):
    """Both of them, and a prior with a log_prob(z, noise) where it is not N(0, I); it may use so many numbers
    of noise.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior

    @property
    def placed(self) -> bool:
        """Whether the prior is another than N(0, I): until it has been placed it is not."""
        return self.prior is not None and bool(self.prior.placed)

    @property
    def noise_width(self) -> int:
        """Numbers of noise that one draw takes."""
        above = 0 if self.prior is None else int(self.prior.noise_width)  # type: ignore[arg-type]
        return self.encoder.flow.d + above

    def shift(self, by: Float[Tensor, " m"]) -> None:
        """Become the model of x + by, for likelihoods whose first head is a mean."""
        self.encoder.centre.add_(by)
        self.decoder.centre[0].add_(by)

    def forward(self, x: Float[Tensor, "rows m"], noise: Float[Tensor, "rows n w"]) -> Terms:
        """The terms of the bound at the draws that the noise makes."""
        noise, above = noise.tensor_split([self.encoder.flow.d], dim=-1)
        context = self.encoder.context(x)
        z, log_q = self.encoder.draw(context, noise)
        kl = self.encoder.kl(context) if self.encoder.gaussian and not self.placed else None
        if self.prior is not None and self.placed:
            log_prior: Tensor = self.prior.log_prob(z, above)  # type: ignore[operator]
        else:
            log_prior = -0.5 * (z.square().sum(dim=-1) + z.shape[-1] * _LOG_2PI)
        return Terms(self.decoder.log_prob(x[:, None], z), log_prior, log_q, kl)


def set_seen_units(reader: nn.Module, seen: Float[np.ndarray, "rows m"], *, each: bool) -> None:
    """Standardise what a network sees: each element, or all alike."""
    sd = spread(seen if each else seen.reshape(-1, 1))
    parts = {"centre": seen.mean(axis=0), "scale": np.where(sd > 0, sd, 1.0)}
    with torch.no_grad():
        for name, value in parts.items():
            reader.get_buffer(name).copy_(torch.from_numpy(np.broadcast_to(value, seen.shape[1:]).copy()))


def check_decoder(net: nn.Module, latent: int, heads: int, m: int) -> None:
    """Try a decoder of the user's on two rows. Raises `SettingsError` where it fails, `ShapeError` where it
    gives something else.
    """
    wanted = f"(rows, {latent}) to (rows, {heads}, {m})"
    try:
        with torch.no_grad():
            out = net(torch.zeros(2, latent, dtype=torch.float64))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SettingsError(
            f"decoder must take {wanted}; on two rows of zeros it failed ({type(error).__name__}: {error})."
        ) from error
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if not isinstance(out, Tensor) or out.numel() != 2 * heads * m or out.shape[0] != 2:
        raise ShapeError(f"decoder must take {wanted}, so give (2, {heads}, {m}) for two rows, got {shape}.")
