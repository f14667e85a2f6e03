"""A presence map: on which of 32 x 32 squares does a plant grow, with what cover, in how large patches?

The likelihood of such a map is out of reach: every square depends on every other. `data=sf.Grid()` says that
y is a map, so that the fit takes a network that looks at neighbourhoods.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, norm, uniform

import sbi_flows as sf

prior = sf.Prior(cover=uniform(0.05, 0.9), patch=loguniform(0.5, 6))
SIDE, FIELD = 32, 64
WAVES = 2 * np.pi * np.fft.fftfreq(FIELD)
SQUARED = WAVES[:, None] ** 2 + WAVES**2


@sf.simulator(prior, data=sf.Grid())
def presence(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Ground is smooth noise, `patch` squares wide; the plant grows on the best of it, a share `cover`."""
    smooth = np.exp(-SQUARED * theta["patch"][:, None, None] ** 2 / 2)
    noise = np.fft.fft2(rng.standard_normal((len(smooth), FIELD, FIELD)))
    ground = np.fft.ifft2(noise * smooth).real[:, :SIDE, :SIDE]  # a window of a larger field
    ground /= np.sqrt((smooth**2).mean(axis=(1, 2), keepdims=True))  # variance 1
    return ground > norm.isf(theta["cover"])[:, None, None]


def picture(draws: sf.Draws, observed: np.ndarray, truth: dict[str, np.ndarray], path: str) -> None:
    """The map, the posterior, and a map that the posterior predicts."""
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.2), layout="constrained")
    first = {name: draws[name][:1] for name in draws}
    predicted = presence(first, np.random.default_rng(5))[0]
    for panel, one, title in [(axes[0], observed, "observed"), (axes[2], predicted, "one predicted")]:
        panel.imshow(one, cmap="Greens", vmin=0, vmax=1.3)
        panel.set(title=title, xticks=[], yticks=[])
    axes[1].plot(draws["cover"], draws["patch"], ".", color="#0072b2", ms=2, alpha=0.3)
    axes[1].plot(truth["cover"], truth["patch"], "+", color="#d55e00", ms=14, mew=2)
    axes[1].set(title="posterior, and the truth (+)", xlabel="cover", ylabel="patch", yscale="log")
    axes[1].set(xlim=(0.05, 0.95), ylim=(0.5, 6))
    axes[1].set_yticks([0.5, 1, 2, 5], [0.5, 1, 2, 5])
    axes[1].minorticks_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 10_000))
    truth = {"cover": np.array([0.35]), "patch": np.array([2.0])}
    observed = presence(truth, np.random.default_rng(13))[0]
    posterior = sf.fit(presence, n_simulations=n, settings=sf.FitSettings(members=1), seed=1)  # one network
    draws = posterior.sample(observed, 4_000, seed=2)
    picture(draws, observed, truth, "presence_map.png")
    print(draws.summary())
    print(draws.verdict)
