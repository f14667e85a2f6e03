"""Your own simulator in twenty lines: births and deaths in a yeast culture, counted every hour."""

import os

import numpy as np
from scipy.stats import gamma, uniform

import sbi_flows as sf

prior = sf.Prior(birth=uniform(0.1, 0.9), death=uniform(0.0, 0.5), start=gamma(4, scale=5))


@sf.simulator(prior)
def yeast(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    cells = rng.poisson(theta["start"])
    counts = []
    for _ in range(24):
        cells = cells + rng.poisson(theta["birth"] * cells) - rng.binomial(cells, 1 - np.exp(-theta["death"]))
        cells = np.minimum(cells, 10**7)
        counts.append(rng.poisson(cells))
    return np.stack(counts, axis=1)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 20_000))
    truth = {"birth": np.array([0.5]), "death": np.array([0.2]), "start": np.array([20.0])}
    y_obs = yeast(truth, np.random.default_rng(0))[0]
    posterior = sf.fit(yeast, n_simulations=n, seed=1)
    draws = posterior.sample(y_obs, 4_000, seed=2)
    print(draws.summary())
    print(draws.verdict)
