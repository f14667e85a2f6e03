"""Sentences on exact posteriors, and on rounds that lead to them."""

from __future__ import annotations

from collections.abc import Callable

OF_EXACT: dict[str, str | Callable[..., str]] = {
    "exact round": "proposal {round}: {evaluations:,} evaluations of the likelihood, efficiency "
    "{efficiency:.1%}",
    "exact draws": "{evaluations:,} evaluations of the likelihood, {ess:,.0f} effective draws",
    "exact chains": "chains: {evaluations:,} evaluations of the likelihood, R-hat {rhat:.3f}, {ess:,.0f} "
    "effective draws",
    "data of another model": "But the data are unlike the simulations, and draws that are exact under this "
    "model say nothing of whether it is right: {text}",
    "exact, closed form": "draws from the posterior in closed form",
    "closed form, no spread": lambda names, draws: (
        f"the {draws:,} draws of {' and '.join(names)} in closed form are all equal, as if the data left "
        "nothing open, which no density says: look at exact_posterior"
    ),
    "other simulator": "The posterior was trained on {trained!r}, and these draws are of {given!r}: they "
    "sharpen it only where the two are the same model",
    "exact, weights": "exact up to Monte Carlo error: means to {error:.3f} posterior sd ({ess:,.0f} "
    "effective of {draws:,} weighted draws, k-hat {k_hat:.2f}; {given:,} taken from them)",
    "exact, chains": "exact up to Monte Carlo error: means to {error:.3f} posterior sd ({ess:,.0f} effective "
    "draws of Markov chains, R-hat {rhat:.3f})",
    "not exact, few draws": "not exact yet: means to {error:.2f} posterior sd ({ess:,.0f} effective of "
    "{draws:,} weighted draws, k-hat {k_hat:.2f}; {given:,} taken from them). Give more "
    "minutes, or n_simulations",
    "not exact, k-hat": "not exact: k-hat {k_hat:.2f} is above 0.7, so the {draws:,} weighted draws may miss "
    "part of the posterior, or the likelihood's estimate is too noisy. Give more minutes or n_simulations, "
    "or a less noisy likelihood",
    "not exact, chains": "not exact: R-hat {rhat:.3f} should be below 1.01, and {ess:,.0f} effective draws "
    "of the Markov chains at least 400. Give more minutes or n_simulations, or a less noisy likelihood",
    "importance proposal": "the neural posterior as an importance proposal here: efficiency "
    "{efficiency:.1%}, Pareto k {pareto_k:.2f} (below 0.7 is reliable; likelihood noise counts too)",
}
