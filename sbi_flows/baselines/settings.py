"""The settings of `sf.abc`: which belong to which method, and what each is where it is not given."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from sbi_flows.arrays import integer, real
from sbi_flows.baselines.adjustment import Adjustment, check_adjustment
from sbi_flows.errors import SettingsError
from sbi_flows.simulation.settings import SimulateSettings

Method = Literal["rejection", "smc", "pmc", "synthetic_likelihood"]
METHODS: tuple[Method, ...] = get_args(Method)

_SEQUENTIAL = ("smc", "pmc")
_SYNTHETIC = ("synthetic_likelihood",)
_BY_DISTANCE = ("rejection", *_SEQUENTIAL)
BELONGS: dict[str, tuple[str, ...]] = {
    "quantile": ("rejection",),
    "adjust": _BY_DISTANCE,
    "epsilon": _BY_DISTANCE,
    "distance": _SEQUENTIAL,
    "particles": _SEQUENTIAL,
    "alpha": _SEQUENTIAL,
    "least_acceptance": _SEQUENTIAL,
    "data_sets": ("smc",),
    "simulations_each": _SYNTHETIC,
    "chains": _SYNTHETIC,
    "warmup": _SYNTHETIC,
    "pilot": _SYNTHETIC,
    "covariance": _SYNTHETIC,
    "summaries": METHODS,
    "simulate": METHODS,
}
_COVARIANCES = ("unbiased", "plug-in", "shrinkage")
_MOST = 10**7


@dataclass(frozen=True, kw_only=True)
class ABCSettings:
    """How `sf.abc` runs. None is the usual value; a setting of another method is refused.

    Of rejection, see `sf.rejection_abc`:

    quantile: the share accepted: 0.01, or what accepts 100 where that is more.

    Of rejection, smc and pmc:

    adjust: regression adjustment of the draws: "linear", "ridge" or "neural". None.

    epsilon: the tolerance to reach, in units of the distance under the prior. smc and pmc stop there; there
        it needs distance="fixed". None: as small as the budget allows.

    Of smc and pmc:

    particles: how many draws a generation has: a twentieth of n_simulations, from 100 to 1,000; 1,000 where
        only the minutes are given.
    alpha: the share of them, by effective number, that the next tolerance lets survive. 0.5.
    distance: "adaptive": scaled by the simulations of each generation (Prangle 2017); "fixed": by those of
        the first, from the prior. "adaptive".
    least_acceptance: the acceptance rate below which no further generation begins. 0.003.

    Of smc:

    data_sets: how many are simulated at each particle; its weight is the share inside the tolerance. 1.

    Of synthetic_likelihood:

    simulations_each: how many estimate the mean and the covariance of k summaries at each theta: k^2 / 3,
        from 20 to 500 and at least k + 8, where the estimate is unbiased; 2 k, from 20 to 500, where it
        shrinks.
    chains: how many run in lock step. 4.
    warmup: the steps of each chain in which the proposal adapts, and which are left out: a third of all; 250
        where only the minutes are given.
    pilot: simulations from the prior, of which the nearest start the chains: a tenth of n_simulations, from
        200 to 2,000; 1,000 where only the minutes are given.
    covariance: "unbiased": of the density (Price et al. 2018); "plug-in" (Wood 2010); "shrinkage": the
        plug-in with correlations shrunk by what the pilot says (Warton 2008). "unbiased" for up to 30
        summaries, else "shrinkage".

    Of all:

    summaries: "declared", "data", a function of events (n, *event) to (n, k), or a posterior, whose summary
        network it then is; of rejection also "semi-automatic". None: those that the simulator declares, else
        the data themselves.
    simulate: `sf.SimulateSettings`, as of `sf.simulate`.

    Raises `SettingsError`.
    """

    quantile: float | None = None
    adjust: Adjustment | None = None
    epsilon: float | None = None
    particles: int | None = None
    alpha: float | None = None
    distance: Literal["adaptive", "fixed"] | None = None
    least_acceptance: float | None = None
    data_sets: int | None = None
    simulations_each: int | None = None
    chains: int | None = None
    warmup: int | None = None
    pilot: int | None = None
    covariance: Literal["unbiased", "plug-in", "shrinkage"] | None = None
    summaries: Any = None
    simulate: SimulateSettings | None = None

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, integer(name, given, least, most=_MOST))
        for name, most in _SHARES.items():
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, real(name, given, positive=True, most=most))
        if self.alpha is not None and self.alpha > _LARGEST_ALPHA:
            raise SettingsError(
                f"alpha must be at most {_LARGEST_ALPHA:g}, or the tolerance would hardly fall; got "
                f"{self.alpha:g}."
            )
        if self.epsilon is not None and self.quantile is not None:
            raise SettingsError("pass one of quantile and epsilon, got both.")
        self._check_summaries()
        check_adjustment(self.adjust)
        _check_word("distance", self.distance, ("adaptive", "fixed"))
        _check_word("covariance", self.covariance, _COVARIANCES)
        if self.simulate is not None and not isinstance(self.simulate, SimulateSettings):
            raise SettingsError(
                f"simulate must be sf.SimulateSettings(...), got {type(self.simulate).__name__}."
            )

    def _check_summaries(self) -> None:
        given, words = self.summaries, ("declared", "data", "semi-automatic")
        known = given in words if isinstance(given, str) else callable(getattr(given, "summaries", given))
        if given is not None and not known:
            raise SettingsError(
                f"summaries must be {_listed(words)}, a function of events or a posterior, got {given!r}."
            )

    def check_method(self, method: object) -> None:
        """Raise `SettingsError` for a method that there is not, and for settings of another one."""
        if method not in METHODS:
            raise SettingsError(f"method must be one of {_listed(METHODS)}, got {method!r}.")
        for field in fields(self):
            owners = BELONGS[field.name]
            if method not in owners and getattr(self, field.name) is not None:
                raise SettingsError(
                    f"{field.name}= is a setting of {_listed(owners)}, not of {method!r}. Leave it out, or "
                    "choose another method."
                )
        if self.epsilon is not None and method in _SEQUENTIAL and self.distance != "fixed":
            raise SettingsError(
                "epsilon= needs distance='fixed': an adaptive distance changes its unit with each generation."
            )

    def filled(self, n_simulations: int | None) -> ABCSettings:
        """With the usual values of the sequential methods in place of None, but for those that depend on the
        number of summaries.
        """
        tenth = None if n_simulations is None else n_simulations // 10
        usual = {
            "particles": 1000 if tenth is None else min(max(tenth // 2, 100), 1000),
            "pilot": 1000 if tenth is None else min(max(tenth, 200), 2000),
            **_USUAL,
        }
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})


_WHOLE = {"particles": 20, "data_sets": 1, "simulations_each": 5, "chains": 2, "warmup": 10, "pilot": 20}
_SHARES = {"quantile": 1.0, "alpha": 1.0, "least_acceptance": 1.0, "epsilon": 1e300}
_LARGEST_ALPHA = 0.99
_USUAL: dict[str, Any] = {
    "alpha": 0.5,
    "distance": "adaptive",
    "least_acceptance": 0.003,
    "data_sets": 1,
    "chains": 4,
}


def usual_covariance(k: int) -> Literal["unbiased", "shrinkage"]:
    """How a synthetic likelihood of k summaries is estimated."""
    return "unbiased" if k <= _MANY_SUMMARIES else "shrinkage"


def usual_simulations_each(k: int, covariance: str) -> int:
    """How many simulations estimate it. The log of the estimate has a variance of about k^2 / 2n."""
    if covariance == "shrinkage":
        return min(max(20, 2 * k), 500)
    return max(k + 8, min(max(20, k * k // 3), 500))


_MANY_SUMMARIES = 30


def _check_word(name: str, given: object, words: tuple[str, ...]) -> None:
    if given is not None and given not in words:
        raise SettingsError(f"{name} must be {_listed(words)}, got {given!r}.")


def _listed(words: tuple[str, ...]) -> str:
    quoted = [repr(word) for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
