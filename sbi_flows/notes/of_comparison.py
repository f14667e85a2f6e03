"""Sentences on methods compared with one another."""

from __future__ import annotations

from collections.abc import Callable

_THE = {"exact": "the exact posterior", "neural posterior": "the neural posterior"}


def _believe(method: str, level: str, alike: list[str]) -> str:
    """Which method to believe."""
    named = _THE.get(method, method)
    if level == "do not trust":
        return f"Believe none of these answers until their verdicts are understood. Least doubtful: {named}"
    found = (
        f"Believe {named}: of the answers that can be trusted it makes the fewest approximations"
        if level == "trust"
        else f"No answer is beyond doubt. Take {named}, with care: of the least doubtful it makes the fewest "
        "approximations"
    )
    others = " and ".join(_THE.get(one, one) for one in alike)
    return f"{found}. {others[:1].upper()}{others[1:]} can hardly be told from it" if alike else found


def _networks_disagree(apart: float, p: float | None = None, usual: float | None = None) -> str:
    here = f"its networks disagree: their means differ by {apart:.2f} sd"
    if p is not None:
        here += f" (p = {p:.2g}; {usual:.2f} sd on simulated data)"
    return f"{here}. Simulate more"


OF_COMPARISON: dict[str, str | Callable[..., str]] = {
    "ABC left out": "ABC: {reason}",
    "no exact method": "exact: the simulator declares neither log_likelihood nor exact_posterior",
    "exact left out": "exact: log_likelihood or exact_posterior of the simulator failed with {reason}",
    "believe": _believe,
    "method left out": "{method}: {reason}",
    "predictions left out": "posterior predictive of {method}: the simulator raised {reason}",
    "predictive check left out": "posterior predictive check: {reason}",
    "predictions not finite": lambda failed, n: (
        f"posterior predictive check: {failed:,} of {n:,} predicted data sets are not finite and left out; "
        f"the simulator fails at {failed / n:.1%} of the neural posterior's draws"
    ),
    "unlikely data": "it predicts data unlike those observed (p = {p:.2g}; worst predicted: {worst}). Check "
    "the simulator",
    "networks disagree": _networks_disagree,
    "networks disagree everywhere": "its networks disagree on simulated data too: their means differ by "
    "{usual:.2f} sd there, and by {apart:.2f} here. Simulate more",
    "unlike exact": lambda c2st, few, neural=True: (
        f"a classifier tells {'the neural' if neural else 'these'} draws from exact ones with accuracy "
        f"{c2st:.2f}{', though the exact ones are few' if few else ''}. "
        f"{'Train longer, or use' if neural else 'Use'} the exact draws"
    ),
    "networks apart": "the means of the ensemble's networks differ by {apart:.2f} posterior sd here, and by "
    "{usual:.2f} (median) on {n} simulated data sets: p = {p:.2g}",
}
