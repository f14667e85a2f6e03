"""Simulations made in R: two CSV files, one with the parameters, one with the data. No simulator is needed.

In R: write.csv(theta, "theta.csv"); write.csv(y, "y.csv"). Row i of y was simulated at row i of theta.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import loguniform, uniform

import sbi_flows as sf

prior = sf.Prior(r=uniform(0.1, 0.9), K=loguniform(50, 500), noise=uniform(0.02, 0.28))  # as R drew them
DAYS = np.arange(16)


def grown(theta: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """What R would simulate: logistic growth from 10 cells, with noise."""
    r, most, noise = (theta[name].to_numpy()[:, None] for name in ("r", "K", "noise"))
    mean = most / (1 + (most / 10 - 1) * np.exp(-r * DAYS))
    return mean * np.exp(noise * rng.standard_normal(mean.shape))


def write_as_r_does(n: int, rng: np.random.Generator) -> None:
    """Row names, quoted, in a first column without a name; columns V1, V2, ..."""
    names = pd.Index([str(i + 1) for i in range(n)])
    theta = pd.DataFrame(prior.sample(n, rng), columns=prior.names, index=names)
    y = pd.DataFrame(grown(theta, rng), columns=[f"V{day + 1}" for day in DAYS], index=names)
    theta.to_csv("theta.csv", quoting=2)
    y.to_csv("y.csv", quoting=2)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 5_000))
    write_as_r_does(n, np.random.default_rng(1))
    truth = pd.DataFrame({"r": [0.5], "K": [200.0], "noise": [0.1]})
    y_obs = grown(truth, np.random.default_rng(2))[0]

    theta, y = (pd.read_csv(name, index_col=0) for name in ("theta.csv", "y.csv"))
    simulations = sf.Simulations.from_arrays(prior, theta, y)  # columns of theta are matched by name
    posterior = sf.fit(simulations=simulations, settings=sf.FitSettings(members=1), seed=1)  # one network
    draws = posterior.sample(y_obs, 4_000, seed=2)

    figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), layout="constrained")
    for panel, name in zip(axes, draws, strict=True):
        panel.hist(theta[name], 60, density=True, color="#999999", alpha=0.4, label="prior")
        panel.hist(draws[name], 40, density=True, color="#0072b2", alpha=0.7, label="posterior")
        panel.axvline(truth[name][0], color="#1c2126", lw=0.8, ls="--", label="truth")
        panel.set(xlabel=name, yticks=[])
    axes[0].legend(frameon=False)
    figure.savefig("pairs_from_r.png", dpi=110)
    print("The same on the command line, with this prior in prior.py:")
    print("sbi-flows fit --theta theta.csv --data y.csv --prior prior.py:prior -o grown.safetensors")
    print(draws.summary())
    print(draws.verdict)
