"""Sentences on approximate Bayesian computation."""

from __future__ import annotations

from collections.abc import Callable


def _budget_spent(what: str, dropped: int | None) -> str:
    left = "" if dropped is None else f"; generation {dropped} was not completed and is left out"
    return f"the budget of {what} is spent{left}"


OF_ABC: dict[str, str | Callable[..., str]] = {
    "tolerance reached": "the tolerance that was asked for is reached: {tolerance:.3g}",
    "few accepted": "Only {accepted} simulations were accepted",
    "many failed": "{share:.0%} of the simulations failed and count as rejected: the draws avoid such theta",
    "values filled": "The simulations lack {share:.0%} of the values that are compared, and the median "
    "stands for them: the draws are too wide. Give summaries that know gaps.",
    "tolerance too large": lambda sd, mean: (
        f"the tolerance is too large: at 0 the mean would move by {mean:.2f} sd, and the sd fall by {sd:.0%}"
    ),
    "tolerance stays": "the tolerance cannot fall below {tolerance:.3g}: too many simulations are equally "
    "far",
    "data met": "the simulated summaries equal the observed ones: the tolerance is 0",
    "budget spent": _budget_spent,
    "acceptance too low": "fewer than {least:.2g} of the proposals of generation {dropped} were accepted, so "
    "it was not completed",
    "relations broken": "its values break linear relations that all simulations obey",
    "far from simulations": lambda quantile, times: (
        f"it lies {times:.3g} times as far from the simulations as the furthest of simulated data sets"
        if times > 1
        else f"it lies further from the simulations than {quantile:.1%} of simulated data sets do"
    ),
    "check data": "Check the data and their units, then the prior and the simulator",
    "near simulations": "the data lie as near to the simulations as simulated data sets do (quantile "
    "{quantile:.3f} of their distances)",
    "large share": lambda accepted, usable: (
        f"{accepted:,} of {usable:,} simulations were accepted, so these "
        f"{'are' if accepted == usable else 'may be closer to'} draws from the prior"
    ),
    "learned summaries": lambda method, rows, error: (
        f"summaries: E[theta | y] by {method}, learned from {rows:,} simulations that are not accepted; on "
        f"held-out ones its mean squared error is {error:.3g} of the prior's variance"
    ),
}
