"""Great tits in Wytham Wood: does the prior cover the data, and what do the counts say about growth?"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import sbi_flows as sf

great_tits = sf.load_simulator("great_tits")
years = np.arange(1960, 1987)


def prior_predictive(path: str) -> None:
    """Draw the bands that the prior predicts around the observed counts."""
    counts = sf.simulate(great_tits, 5_000, seed=1).y
    low, quarter, median, three_quarters, high = np.quantile(counts, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    axes.fill_between(years, low, high, color="#0072b2", alpha=0.15, lw=0, label="prior predictive, 90%")
    axes.fill_between(years, quarter, three_quarters, color="#0072b2", alpha=0.3, lw=0, label="50%")
    axes.plot(years, median, color="#0072b2", lw=1)
    axes.plot(years, great_tits.data("wytham_wood"), "o-", color="#1c2126", ms=3, lw=0.8, label="observed")
    axes.set(xlabel="year", ylabel="breeding great tits", yscale="symlog")
    axes.legend(frameon=False, ncols=3, loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 100_000))
    prior_predictive("great_tits_prior.png")
    posterior = sf.fit(great_tits, n_simulations=n, seed=1)
    draws = posterior.sample(great_tits.data("wytham_wood"), 4_000, seed=2)
    print(draws.summary())
    stable = (draws["log_r"] < 2).mean()
    print(f"probability that log r is below 2, where the population has a stable equilibrium: {stable:.3f}")
    print(draws.verdict)
