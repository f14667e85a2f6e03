"""Sentences on refining in rounds."""

from __future__ import annotations

from collections.abc import Callable

ROUNDS_ENDED = {
    "rounds": "all that were asked for",
    "stays": "the region no longer shrinks, so the last round took all simulations that were left",
    "region": "too little of the prior is left to be drawn from",
    "time": "the time is up",
}

CUT_SHORT = {
    "region": "The rounds stopped before round {next}: where the posterior of these data has its mass, too "
    "little of the prior is left to draw parameters from. If no simulation is like the data, look at them, "
    "widen the prior, or mend the simulator",
    "time": "The rounds stopped before round {next}: the time is up. Give more minutes",
}


def _region(round: int, share: float, way: str, lost: float) -> str:
    drawn = "draws of the prior" if way == "prior" else "uniform draws in an ellipsoid"
    return (
        f"round {round}: the region holds {share:.3g} of the prior, and all but {lost:.2g} of the posterior "
        f"so far; drawn from by rejection from {drawn}"
    )


def _round(
    round: int, simulations: int, rows: int, gain: float, gain_error: float, moved: float, weight: float
) -> str:
    return (
        f"round {round}: {simulations:,} simulations, {rows:,} rows to train on; the new network has mixture "
        f"weight {weight:.2f}; held-out log density {gain:+.3f} ± {gain_error:.3f} nats, and the posterior "
        f"moved by {moved:.2f} nats"
    )


OF_ROUNDS: dict[str, str | Callable[..., str]] = {
    "region": _region,
    "round": _round,
    "rounds ended": lambda reason, rounds, simulations: (
        f"{simulations:,} simulations in {rounds} round{'s' * (rounds != 1)}: {ROUNDS_ENDED[reason]}"
    ),
    "refined": lambda rounds, simulations, apart: (
        f"Refined by {simulations:,} simulations in {rounds} round{'s' * (rounds != 1)}: the amortised "
        f"posterior is {apart:.2f} nats from it"
    ),
    "not refined": lambda rounds, simulations: (
        f"{simulations:,} simulations in {rounds} round{'s' * (rounds != 1)} gave no network that is better "
        "on held-out simulations than the amortised posterior's, so these are its draws"
        if rounds
        else "No round was made, so these are draws of the amortised posterior"
    ),
    "rounds cut short": lambda rounds, reason: CUT_SHORT[reason].format(next=rounds + 1),
    "still changing": "The last round still changed it by {moved:.2f} nats: give more simulations",
    "failures in rounds": lambda failed, made: (
        f"{failed:,} of {made:,} simulations failed and are left out: where they fail, the prior is cut"
    ),
}
