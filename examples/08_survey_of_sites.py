"""A survey of eight sites, some visited twice, others twenty times. What do the others say about one of them?

The sites are exchangeable: their log densities come from one normal distribution, whose mean and sd are
parameters too. The fewer visits a site had, the more its estimate moves towards the others: shrinkage.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import halfnorm, norm

import sbi_flows as sf

SITES = ["Bog", "Dune", "Fen", "Heath", "Lake", "Marsh", "Moor", "Wood"]
VISITS = np.array([2, 20, 2, 10, 3, 5, 2, 15])
prior = sf.Prior(
    mean=norm(0, 1.5),
    spread=halfnorm(0, 1),
    site=lambda p: sf.iid(norm(p["mean"], p["spread"]), len(SITES), labels=SITES),  # given mean and spread
)


@sf.simulator(prior, data=sf.Vector(columns=SITES))
def survey(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Butterflies seen at each site in all visits together. theta["site"] is (n, 8): log numbers a visit."""
    return rng.poisson(VISITS * np.exp(np.minimum(theta["site"], 15)))


def picture(draws: sf.Draws, counts: np.ndarray, path: str) -> None:
    """Each site's own average, and its posterior, by the number of visits."""
    order = np.argsort(VISITS)
    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    low, median, high = np.quantile(np.exp(draws["site"]), [0.05, 0.5, 0.95], axis=0)[:, order]
    places, own = np.arange(len(SITES)), (counts / VISITS)[order]
    axes.vlines(places, low, high, color="#0072b2", lw=2, label="posterior, 90% interval")
    axes.plot(places, median, "o", color="#0072b2", label="posterior median")
    axes.plot(places, own, "x", color="#d55e00", ms=8, mew=2, label="average of the site alone")
    axes.axhline(np.median(draws["typical"]), color="#1c2126", lw=0.8, ls="--", label="a typical site")
    axes.set(ylabel="butterflies a visit", ylim=(-0.2, None))
    axes.set_xticks(places, [f"{SITES[i]}\n{VISITS[i]} visits" for i in order], fontsize=8)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 10_000))
    counts = np.array([0, 58, 11, 14, 19, 13, 1, 76])
    posterior = sf.fit(survey, n_simulations=n, settings=sf.FitSettings(members=1), seed=1)  # one network
    draws = posterior.sample(counts, 4_000, seed=2).with_(typical=lambda d: np.exp(d["mean"]))
    picture(draws, counts, "survey_of_sites.png")
    print(draws.summary())
    print(draws.to_arviz()["posterior"]["site"].mean(("chain", "draw")).to_series())  # sites by their names
    print(draws.verdict)
