"""Great tits with two years in which nobody counted, and a longer series to come: one fit for all of them.

The simulator makes forty years. `observe=` shortens them and takes years away, anew each time that a
simulation is used, so that the posterior is trained for every length and every gap in that range.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import sbi_flows as sf

great_tits = sf.load_simulator("great_tits")  # 27 years, 1960-1986, from Wytham Wood
YEARS = 40


@sf.simulator(great_tits.prior, data=sf.Series(), event_shape=YEARS)
def longer(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The Ricker model: the more birds there are for their food, the fewer young survive."""
    population, counts = np.ones(len(theta["log_r"])), []
    for _ in range(YEARS):
        weather = theta["sigma"] * rng.standard_normal(len(population))
        population = population * np.exp(theta["log_r"] - population + weather)
        counts.append(rng.poisson(theta["rho"] * population))
    return np.stack(counts, axis=1)


def picture(draws: sf.Draws, series: dict[str, np.ndarray], path: str) -> None:
    """The series above, and the posterior of each parameter given each of them below."""
    figure, axes = plt.subplot_mosaic("aaa;bcd", figsize=(8, 5), layout="constrained")
    colours = ["#999999", "#0072b2", "#d55e00"]
    for (name, counts), colour in zip(series.items(), colours, strict=True):
        axes["a"].plot(1960 + np.arange(len(counts)), counts, "o-", color=colour, ms=3, lw=1, label=name)
    axes["a"].set(xlabel="year", ylabel="breeding great tits", ylim=(90, 410))
    axes["a"].legend(frameon=False, ncols=3, loc="upper left")
    for panel, parameter in zip("bcd", draws, strict=True):
        for one, colour in zip(draws[parameter], colours, strict=True):
            axes[panel].hist(one, 40, density=True, histtype="step", color=colour, lw=1.4)
        axes[panel].set(xlabel=parameter, yticks=[])
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 10_000))
    complete = great_tits.data("wytham_wood")
    gappy = np.where(np.isin(np.arange(27), [9, 17]), np.nan, complete)  # NaN: not observed (1969 and 1977)
    ahead = {"log_r": np.array([0.9]), "sigma": np.array([0.28]), "rho": np.array([230.0])}
    to_come = np.concatenate([complete, longer(ahead, np.random.default_rng(3))[0, 27:]])  # made up
    patterns = [sf.lengths(15, YEARS), sf.gaps((0, 0.3))]
    quick = sf.FitSettings(members=1)  # one network; left out, there are several
    posterior = sf.fit(longer, n_simulations=n, observe=patterns, settings=quick, seed=1)
    series = {"with years to come": to_come, "complete": complete, "two years missing": gappy}
    draws = posterior.sample(list(series.values()), 4_000, seed=2)  # a list of unequal lengths is a stack
    picture(draws, series, "missing_years.png")
    print(draws.observation(2).summary())
    print(draws.observation(2).verdict)
