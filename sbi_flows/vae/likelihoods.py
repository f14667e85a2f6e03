"""Likelihoods p(x | z) = prod_j p(x_j | out_j), where a decoder gives `heads` numbers for each of the m
elements of x.

    bernoulli     log p = x l - softplus(l)                                        out: the logit l;  x is 0
    or 1 binomial      log p = log C(n, x) + x l - n softplus(l)                        out: the logit l;  x
    in 0, ..., n poisson       log p = x l - exp(l) - log x!                                    out: the log
    rate l;  x in 0, 1, ... categorical   log p = l_x - logsumexp(l)
    out: K logits;  x in 0, ..., K - 1 gaussian      log p = -(x - mu)^2 / (2 s^2) - log s - log(2 pi) / 2
    out: the mean mu, and log s where a network gives it

The standard deviation s of a Gaussian is one of four: a given number; "learned", one for all elements;
"per_feature", one an element; or "network", a function of z. A squared-error loss is the first with s =
1/sqrt(2), and blurs.

Outputs are (..., heads, m), x is (..., m), log p is summed over the elements, in nats.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from sbi_flows.arrays import F, integer, is_real, spread
from sbi_flows.errors import ObservationError, SettingsError

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LEAST_SHARE = 0.01
_MOST_LOG_RATE = 20.0
_MOST_COUNT = int(math.exp(_MOST_LOG_RATE))
_MOST_SIZE = 1e30


@runtime_checkable
class Likelihood(Protocol):
    """A record of what p(x | z) is. `name` names it; `heads` is the number of decoder outputs an element, 0
    where it is not known yet.
    """

    @property
    def name(self) -> str: ...
    @property
    def heads(self) -> int: ...
    def free(self, m: int) -> int:
        """How many free numbers it has that no z moves."""
        ...

    def completed(self, x: F) -> Likelihood:
        """Itself with what was left open taken from data (n, m)."""
        ...

    def objection(self, x: F) -> str | None:
        """What is wrong with data (n, m), or None."""
        ...

    def start(self, x: F) -> tuple[F, F, F]:
        """Centre and scale (heads, m) of the outputs, and the free numbers, that suit data (n, m)."""
        ...

    def log_prob(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        """log p(x | z), (...,)."""
        ...

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        """log p(x_j | z) of each element, (..., m)."""
        ...

    def mean(self, out: Tensor, free: Tensor) -> Tensor: ...
    def sample(self, out: F, free: F, rng: np.random.Generator) -> F: ...


class _Elements:
    def log_prob(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        return self.each(x, out, free).sum(dim=-1)

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        raise NotImplementedError


class _NothingFree(_Elements):
    def free(self, m: int) -> int:
        return 0


@dataclass(frozen=True)
class Bernoulli(_NothingFree):
    """x_j is 0 or 1."""

    name = "bernoulli"
    heads = 1

    def completed(self, x: F) -> Likelihood:
        return self

    def objection(self, x: F) -> str | None:
        return _outside(
            x, (x == 0) | (x == 1), "0 or 1 (threshold grey values first, or use 'gaussian' or 'binomial')"
        )

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
class Binomial(_NothingFree):
    """x_j counts the successes in `trials`; None takes the largest value of the training data."""

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

    def completed(self, x: F) -> Likelihood:
        return self if self.trials is not None else Binomial(max(int(x.max()), 1))

    def objection(self, x: F) -> str | None:
        return _outside(
            x, _whole(x) & (x <= self._n), f"a whole number from 0 to {self._n}, the number of trials"
        )

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
class Poisson(_NothingFree):
    """x_j is a count; the log rate is held below 20, and so are counts below exp(20)."""

    name = "poisson"
    heads = 1

    def completed(self, x: F) -> Likelihood:
        return self

    def objection(self, x: F) -> str | None:
        return _outside(x, _whole(x) & (x <= _MOST_COUNT), f"a whole number from 0 to {_MOST_COUNT}")

    def start(self, x: F) -> tuple[F, F, F]:
        return np.log(x.mean(axis=0) + _LEAST_SHARE)[None], np.ones((1, x.shape[1])), np.zeros(0)

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
class Categorical(_NothingFree):
    """x_j is one of `classes` classes 0, 1, ...; None takes what the training data have. Its mean is the most
    probable class.
    """

    classes: int | None = None
    name = "categorical"

    def __post_init__(self) -> None:
        _set_count(self, "classes", 2)

    @property
    def heads(self) -> int:
        return self.classes or 0

    def completed(self, x: F) -> Likelihood:
        return self if self.classes is not None else Categorical(max(int(x.max()) + 1, 2))

    def objection(self, x: F) -> str | None:
        return _outside(x, _whole(x) & (x < self.heads), f"a class from 0 to {self.heads - 1}")

    def start(self, x: F) -> tuple[F, F, F]:
        shares = np.stack([(x == k).mean(axis=0) for k in range(self.heads)])
        return np.log(shares + _LEAST_SHARE), np.ones(shares.shape), np.zeros(0)

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
    """x_j is a number; sd: a given standard deviation, "learned", "per_feature" or "network"."""

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

    def completed(self, x: F) -> Likelihood:
        return self

    def objection(self, x: F) -> str | None:
        return _outside(
            x,
            np.abs(x) <= _MOST_SIZE,
            f"of a size up to {_MOST_SIZE:g} (networks train in single precision: change the unit)",
        )

    def start(self, x: F) -> tuple[F, F, F]:
        sd = spread(x)
        sd = np.where(sd > 0, sd, sd.max() or 1.0)
        centre, scale = x.mean(axis=0)[None], sd[None]
        if self.sd == "network":
            centre, scale = np.stack([centre[0], np.log(sd)]), np.stack([sd, np.ones(len(sd))])
        free = {"learned": np.array([0.5 * np.log(np.square(sd).mean())]), "per_feature": np.log(sd)}
        return centre, scale, free.get(str(self.sd), np.zeros(0))

    def each(self, x: Tensor, out: Tensor, free: Tensor) -> Tensor:
        log_sd = self._log_sd(out, free)
        return -0.5 * ((x - out[..., 0, :]) * torch.exp(-log_sd)).square() - log_sd - _HALF_LOG_2PI

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


LIKELIHOODS: dict[str, type[Any]] = {
    kind.name: kind for kind in (Bernoulli, Gaussian, Poisson, Categorical, Binomial)
}


def likelihood_of(given: object) -> Likelihood:
    """The likelihood that a name or a record stands for. Raises `SettingsError`."""
    if isinstance(given, str) and given in LIKELIHOODS:
        made: Likelihood = LIKELIHOODS[given]()
        return made
    if type(given) in LIKELIHOODS.values():
        return given  # type: ignore[return-value]
    raise SettingsError(
        f"likelihood must be one of {', '.join(LIKELIHOODS)}, or a record such as vae.Gaussian(sd=0.1) or "
        f"vae.Binomial(16), got {given!r}."
    )


def to_json(likelihood: Likelihood) -> dict[str, Any]:
    """The record as JSON."""
    return {"name": likelihood.name, **asdict(likelihood)}  # type: ignore[call-overload]


def from_json(record: dict[str, Any]) -> Likelihood:
    """The record that `to_json` wrote."""
    given = dict(record)
    made: Likelihood = LIKELIHOODS[given.pop("name")](**given)
    return made


def check_values(likelihood: Likelihood, x: F) -> None:
    """Raise `ObservationError` where data (n, m) are none that the likelihood can give."""
    if (objection := likelihood.objection(x)) is not None:
        raise ObservationError(f"a {likelihood.name} likelihood takes elements of x that are {objection}")


def _outside(x: F, inside: NDArray[np.bool_], wanted: str) -> str | None:
    if inside.all():
        return None
    row, element = (int(i) for i in np.argwhere(~inside)[0])
    return f"{wanted}; got {x[row, element]:g} in row {row}, element {element}."


def _whole(x: F) -> NDArray[np.bool_]:
    return np.asarray((x >= 0) & (x == np.floor(x)))


def _logit(share: F) -> F:
    share = np.clip(share, _LEAST_SHARE, 1 - _LEAST_SHARE)
    return np.log(share / (1 - share))[None]


def _sigmoid(logit: F) -> F:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)))


def _set_count(record: object, name: str, least: int) -> None:
    value = getattr(record, name)
    if value is None:
        return
    object.__setattr__(record, name, integer(name, value, least))
