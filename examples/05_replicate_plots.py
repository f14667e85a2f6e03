"""Replicate plots: seedlings counted in spring and again in autumn. How many plots are enough?

All plots share the parameters. `sf.replicates` makes a simulator of sets of plots, in no order; one fit
answers for any number of plots in its range.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import beta, loguniform

import sbi_flows as sf

prior = sf.Prior(density=loguniform(2, 100), clumping=loguniform(0.3, 10), survival=beta(2, 2))
MOST = 20


@sf.simulator(prior, data=sf.Vector(columns=("spring", "autumn")))
def plot(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One plot. Some are better ground than others: the smaller `clumping`, the more unequal they are."""
    ground = rng.gamma(theta["clumping"]) / theta["clumping"]
    spring = rng.poisson(theta["density"] * ground)
    return np.stack([spring, rng.binomial(spring, theta["survival"])], axis=1)


def picture(draws: sf.Draws, truth: dict[str, float], path: str) -> None:
    """Median and 90% interval of each parameter against the number of plots."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    plots, ticks = np.arange(1, MOST + 1), {"density": [5, 10, 20, 50, 100], "clumping": [0.5, 1, 2, 5, 10]}
    for panel, (name, value) in zip(axes, truth.items(), strict=True):
        low, median, high = np.quantile(draws[name], [0.05, 0.5, 0.95], axis=1)
        panel.fill_between(plots, low, high, color="#0072b2", alpha=0.25, lw=0, label="90% interval")
        panel.plot(plots, median, color="#0072b2", label="median")
        panel.axhline(value, color="#1c2126", lw=0.8, ls="--", label="truth")
        panel.set(xlabel="number of plots", title=name, xticks=[1, 5, 10, 15, 20])
        if name in ticks:
            panel.set_yscale("log")
            panel.set_yticks(ticks[name], ticks[name])
            panel.minorticks_off()
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 10_000))
    truth = {"density": 20.0, "clumping": 1.5, "survival": 0.6}
    counts = plot({name: np.full(MOST, value) for name, value in truth.items()}, np.random.default_rng(4))

    plots = sf.replicates(plot, 1, MOST)
    posterior = sf.fit(plots, n_simulations=n, settings=sf.FitSettings(members=1), seed=1)  # one network
    first_plots = [counts[:k] for k in range(1, MOST + 1)]  # the first plot, the first two, ...
    draws = posterior.sample(first_plots, 4_000, seed=2)
    picture(draws, truth, "replicate_plots.png")
    print(draws.observation(MOST - 1).summary())
    print(draws.observation(MOST - 1).verdict)
