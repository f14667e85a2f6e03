"""Two series side by side: counts of a bird, and the rainfall of the same years. Does rain help?

A covariate is data: the simulator draws rain as the station records it, and returns it beside the counts.
y is then a mapping of arrays with the names that `data=` gives them.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, norm, uniform

import sbi_flows as sf

prior = sf.Prior(level=loguniform(10, 200), rain_effect=norm(0, 0.5), noise=uniform(0.05, 0.55))
YEARS = 30


@sf.simulator(prior, data={"counts": sf.Series(), "rainfall": sf.Series()})
def birds(theta: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Numbers return halfway to their level each year, times what the rain (mm) of that year does to them."""
    n, counts, away = len(theta["level"]), [], 0.0
    rainfall = rng.gamma(16, 800 / 16, (n, YEARS))
    for rain in rainfall.T:
        chance = theta["noise"] * rng.standard_normal(n)
        away = away / 2 + theta["rain_effect"] * (rain - 800) / 200 + chance
        counts.append(rng.poisson(theta["level"] * np.exp(away)))
    return {"counts": np.stack(counts, axis=1), "rainfall": rainfall}


def picture(y: dict[str, np.ndarray], effects: dict[str, np.ndarray], truth: float, path: str) -> None:
    """The two series, and what they say about the effect of rain."""
    figure, axes = plt.subplot_mosaic("ac;bc", figsize=(9, 3.6), layout="constrained", width_ratios=[1.3, 1])
    axes["a"].plot(y["counts"], "o-", color="#0072b2", ms=3, lw=1)
    axes["a"].set(ylabel="counts", xticklabels=[], xlim=(-1, YEARS))
    axes["b"].bar(np.arange(YEARS), y["rainfall"], color="#56b4e9")
    axes["b"].set(ylabel="rainfall (mm)", xlabel="year", xlim=(-1, YEARS))
    for (name, effect), colour in zip(effects.items(), ["#0072b2", "#999999"], strict=True):
        axes["c"].hist(effect, 50, density=True, color=colour, alpha=0.6, label=name)
    axes["c"].axvline(truth, color="#1c2126", lw=0.8, ls="--", label="truth")
    axes["c"].set(xlabel="rain_effect", yticks=[])
    axes["c"].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 10_000))
    truth = {"level": np.array([60.0]), "rain_effect": np.array([0.3]), "noise": np.array([0.2])}
    y = {name: part[0] for name, part in birds(truth, np.random.default_rng(17)).items()}
    shuffled = {**y, "rainfall": np.random.default_rng(8).permutation(y["rainfall"])}  # the years mixed up
    posterior = sf.fit(birds, n_simulations=n, settings=sf.FitSettings(members=1), seed=1)  # one network
    draws = posterior.sample([y, shuffled], 4_000, seed=2)
    effect = dict(zip(["rain of its year", "years mixed up"], draws["rain_effect"], strict=True))
    picture(y, effect, 0.3, "counts_and_rainfall.png")
    print(draws.observation(0).summary())
    print(draws.observation(0).verdict)
