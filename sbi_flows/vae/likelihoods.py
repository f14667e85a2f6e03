"""Likelihoods p(x | z) = prod_j p(x_j | out_j): a decoder gives `heads` numbers per element of x.

    bernoulli     log p = x l - softplus(l)                               out: the logit l;  x is 0 or 1
    binomial      log p = log C(n, x) + x l - n softplus(l)               out: the logit l;  x in 0, ..., n
    poisson       log p = x l - exp(l) - log x!                           out: the log rate l;  x in 0, 1, ...
    categorical   log p = l_x - logsumexp(l)                              out: K logits;  x in 0, ..., K - 1
    gaussian      log p = -(x - mu)^2 / (2 s^2) - log s - log(2 pi) / 2   out: the mean mu, and perhaps log s

The standard deviation s of a Gaussian is a given number; "learned", one for all elements; "per_feature", one
per element; or "network", a function of z. A squared-error loss is a given s = 1/sqrt(2), and blurs.

Outputs are (..., heads, m) and x is (..., m), for m elements. log p is summed over them, in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from sbi_flows.arrays import F, integer, is_real, spread
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.flows.conditional import LOG_2PI

_FLOOR = 0.01  # of starting rates and probabilities, which keeps their logarithms finite
_MOST_LOG_RATE = 20.0
_MOST_COUNT = int(math.exp(_MOST_LOG_RATE))
_MOST_SIZE = 1e30


@runtime_checkable
class Likelihood(Protocol):
    """A distribution p(x | z). heads: decoder outputs per element, 0 until the data have been seen.

    `free` stands for its own parameters, those that do not depend on z.
    """

    @property
    def name(self) -> str: ...
    @property
    def heads(self) -> int: ...
    def free(self, m: int) -> int:
        """The number of its own parameters."""

    def completed(self, x: F) -> Likelihood:
        """Itself, with what was left open taken from data (n, m)."""

    def objection(self, x: F) -> str | None:
        """What is wrong with data (n, m), or None."""

    def start(self, x: F) -> tuple[F, F, F]:
        """Centre and scale (heads, m) of the outputs, and its own parameters, that suit data (n, m)."""

    def log_prob(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        """log p(x | z), (...,)."""

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        """log p(x_j | z) per element, (..., m)."""

    def mean(self, out: Tensor, free: Tensor) -> Tensor: ...
    def sample(self, out: F, free: F, rng: np.random.Generator) -> F: ...


class _Elements(ABC):
    """Elements of x are independent given z."""

    def completed(self, x: F) -> Self:
        return self

    def log_prob(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        return self.each(x, out, free).sum(dim=-1)

    @abstractmethod
    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor: ...


class _FromOutputs(_Elements):
    """All parameters are outputs of the decoder."""

    def free(self, m: int) -> int:
        return 0


@dataclass(frozen=True)
class Bernoulli(_FromOutputs):
    """x_j is 0 or 1."""

    name = "bernoulli"
    heads = 1

    def objection(self, x: F) -> str | None:
        wanted = "0 or 1 (threshold grey values first, or use 'gaussian' or 'binomial')"
        return _outside(x, (x == 0) | (x == 1), wanted)

    def start(self, x: F) -> tuple[F, F, F]:
        return _logit(x.mean(axis=0)), np.ones((1, x.shape[1])), np.zeros(0)

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        logit = out[..., 0, :]
        return x * logit - softplus(logit)

    def mean(self, out: Tensor, free: Tensor) -> Tensor:
        return torch.sigmoid(out[..., 0, :])

    def sample(self, out: F, free: F, rng: np.random.Generator) -> F:
        return rng.binomial(1, _sigmoid(out[..., 0, :])).astype(np.float64)


@dataclass(frozen=True)
class Binomial(_FromOutputs):
    """x_j is a number of successes in `trials`; None takes the largest value in the training data."""

    trials: int | None = None
    name = "binomial"

    def __post_init__(self) -> None:
        _set_count(self, "trials", 1)

    @property
    def heads(self) -> int:
        return 0 if self.trials is None else 1

    @property
    def _n(self) -> int:
        return self.trials or 0

    def completed(self, x: F) -> Self:
        return self if self.trials is not None else type(self)(max(int(x.max()), 1))

    def objection(self, x: F) -> str | None:
        wanted = f"a whole number from 0 to {self._n}, the number of trials"
        return _outside(x, _whole(x) & (x <= self._n), wanted)

    def start(self, x: F) -> tuple[F, F, F]:
        return _logit(x.mean(axis=0) / self._n), np.ones((1, x.shape[1])), np.zeros(0)

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        logit = out[..., 0, :]
        ways = math.lgamma(self._n + 1) - torch.lgamma(x + 1) - torch.lgamma(self._n - x + 1)
        return ways + x * logit - self._n * softplus(logit)

    def mean(self, out: Tensor, free: Tensor) -> Tensor:
        return self._n * torch.sigmoid(out[..., 0, :])

    def sample(self, out: F, free: F, rng: np.random.Generator) -> F:
        return rng.binomial(self._n, _sigmoid(out[..., 0, :])).astype(np.float64)


@dataclass(frozen=True)
class Poisson(_FromOutputs):
    """x_j is a count. The log rate is at most 20, and counts are at most exp(20)."""

    name = "poisson"
    heads = 1

    def objection(self, x: F) -> str | None:
        return _outside(x, _whole(x) & (x <= _MOST_COUNT), f"a whole number from 0 to {_MOST_COUNT}")

    def start(self, x: F) -> tuple[F, F, F]:
        return np.log(x.mean(axis=0) + _FLOOR)[None], np.ones((1, x.shape[1])), np.zeros(0)

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        log_rate = self._log_rate(out)
        return x * log_rate - torch.exp(log_rate) - torch.lgamma(x + 1)

    def mean(self, out: Tensor, free: Tensor) -> Tensor:
        return torch.exp(self._log_rate(out))

    def sample(self, out: F, free: F, rng: np.random.Generator) -> F:
        return rng.poisson(np.exp(np.minimum(out[..., 0, :], _MOST_LOG_RATE))).astype(np.float64)

    @staticmethod
    def _log_rate(out: Tensor) -> Tensor:
        return out[..., 0, :].clamp(max=_MOST_LOG_RATE)


@dataclass(frozen=True)
class Categorical(_FromOutputs):
    """x_j is one of `classes` classes 0, 1, ...; None takes the number in the training data.

    `mean` is the most probable class.
    """

    classes: int | None = None
    name = "categorical"

    def __post_init__(self) -> None:
        _set_count(self, "classes", 2)

    @property
    def heads(self) -> int:
        return self.classes or 0

    def completed(self, x: F) -> Self:
        return self if self.classes is not None else type(self)(max(int(x.max()) + 1, 2))

    def objection(self, x: F) -> str | None:
        return _outside(x, _whole(x) & (x < self.heads), f"a class from 0 to {self.heads - 1}")

    def start(self, x: F) -> tuple[F, F, F]:
        frequencies = np.stack([(x == k).mean(axis=0) for k in range(self.heads)])
        return np.log(frequencies + _FLOOR), np.ones(frequencies.shape), np.zeros(0)

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        logits = torch.log_softmax(out, dim=-2)
        chosen = x.long()[..., None, :].expand(*logits.shape[:-2], 1, logits.shape[-1])
        return torch.gather(logits, -2, chosen)[..., 0, :]

    def mean(self, out: Tensor, free: Tensor) -> Tensor:
        return out.argmax(dim=-2).to(out.dtype)

    def sample(self, out: F, free: F, rng: np.random.Generator) -> F:
        return np.asarray((out + rng.gumbel(size=out.shape)).argmax(axis=-2), dtype=np.float64)


@dataclass(frozen=True)
class Gaussian(_Elements):
    """x_j is a real number. sd: a given standard deviation, "learned", "per_feature" or "network"."""

    sd: float | str = "learned"
    name = "gaussian"

    def __post_init__(self) -> None:
        if is_real(self.sd) and 0 < float(self.sd) < math.inf:
            object.__setattr__(self, "sd", float(self.sd))
        elif not isinstance(self.sd, str) or self.sd not in ("learned", "per_feature", "network"):
            raise SettingsError(
                f"sd must be a positive number, 'learned', 'per_feature' or 'network', got {self.sd!r}."
            )

    @property
    def heads(self) -> int:
        return 2 if self.sd == "network" else 1

    def free(self, m: int) -> int:
        return {"learned": 1, "per_feature": m}.get(str(self.sd), 0)

    def objection(self, x: F) -> str | None:
        wanted = f"at most {_MOST_SIZE:g} in size (networks train in single precision: change the unit)"
        return _outside(x, np.abs(x) <= _MOST_SIZE, wanted)

    def start(self, x: F) -> tuple[F, F, F]:
        sd = spread(x)
        sd = np.where(sd > 0, sd, sd.max() or 1.0)
        centre, scale = [x.mean(axis=0)], [sd]
        if self.sd == "network":
            centre, scale = [*centre, np.log(sd)], [*scale, np.ones(len(sd))]
        free = {"learned": np.array([0.5 * np.log(np.square(sd).mean())]), "per_feature": np.log(sd)}
        return np.stack(centre), np.stack(scale), free.get(str(self.sd), np.zeros(0))

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        log_sd = self._log_sd(out, free)
        return -0.5 * ((x - out[..., 0, :]) * torch.exp(-log_sd)).square() - log_sd - 0.5 * LOG_2PI

    def mean(self, out: Tensor, free: Tensor) -> Tensor:
        return out[..., 0, :]

    def sample(self, out: F, free: F, rng: np.random.Generator) -> F:
        sd = self._log_sd(torch.from_numpy(out), torch.from_numpy(free)).exp().numpy()
        return np.asarray(out[..., 0, :] + sd * rng.standard_normal(out[..., 0, :].shape))

    def _log_sd(self, out: Tensor, free: Tensor) -> Tensor:
        if self.sd == "network":
            return out[..., 1, :]
        if isinstance(self.sd, str):
            return free.expand(out.shape[-1])
        return out.new_full((1,), math.log(self.sd)).expand(out.shape[-1])


_KINDS = (Bernoulli, Gaussian, Poisson, Categorical, Binomial)
LIKELIHOODS: dict[str, type[Any]] = {kind.name: kind for kind in _KINDS}


def likelihood_of(given: object) -> Likelihood:
    """The likelihood of a name, or the record itself. Raises `SettingsError` for anything else."""
    if isinstance(given, str) and given in LIKELIHOODS:
        return cast("Likelihood", LIKELIHOODS[given]())
    if type(given) in LIKELIHOODS.values():
        return cast("Likelihood", given)
    raise SettingsError(
        f"likelihood must be one of {', '.join(LIKELIHOODS)}, or a record such as vae.Gaussian(sd=0.1) or "
        f"vae.Binomial(16), got {given!r}."
    )


def to_json(likelihood: Likelihood) -> dict[str, Any]:
    """The record as JSON."""
    return {"name": likelihood.name, **vars(likelihood)}


def from_json(record: dict[str, Any]) -> Likelihood:
    """The record that `to_json` wrote."""
    given = dict(record)
    return cast("Likelihood", LIKELIHOODS[given.pop("name")](**given))


def check_values(likelihood: Likelihood, x: F) -> None:
    """Raise `ObservationError` where data (n, m) hold values that the likelihood cannot produce."""
    if (objection := likelihood.objection(x)) is not None:
        raise ObservationError(f"with a {likelihood.name} likelihood, each element of x must be {objection}")


def _outside(x: F, inside: NDArray[np.bool_], wanted: str) -> str | None:
    if inside.all():
        return None
    row, element = (int(i) for i in np.argwhere(~inside)[0])
    return f"{wanted}; got {x[row, element]:g} in row {row}, element {element}."


def _whole(x: F) -> NDArray[np.bool_]:
    return np.asarray((x >= 0) & (x == np.floor(x)))


def _logit(probability: F) -> F:
    p = np.clip(probability, _FLOOR, 1 - _FLOOR)
    return np.log(p / (1 - p))[None]


def _sigmoid(logit: F) -> F:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)))


def _set_count(record: object, name: str, least: int) -> None:
    if (value := getattr(record, name)) is not None:
        object.__setattr__(record, name, integer(name, value, least))
