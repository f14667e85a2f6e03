"""Both halves together: an autoencoder learns to describe pictures, and a flow infers from that description
the parameters that made them.

A camera counts the photons of a spot on a gradient of stray light. Pictures are cheap (10,000 of them), but
pictures with known parameters are expensive (500).
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 60))
KNOWN = 500
ROW, COLUMN = np.mgrid[:12, :12]


@sf.simulator(
    sf.Prior(across=uniform(2, 7), down=uniform(2, 7), log_width=norm(0.5, 0.2), log_light=norm(1.5, 0.5))
)
def camera(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    across, down, log_width, log_light = (
        theta[name][:, None, None] for name in ("across", "down", "log_width", "log_light")
    )
    distance = np.hypot(COLUMN - across, ROW - down) / np.exp(log_width)
    return rng.poisson(1 + 0.3 * COLUMN + np.exp(log_light - distance**2 / 2))


def draw(model: vae.VAE, posterior: sf.Posterior, path: str) -> None:
    """Pictures, reconstructions, and the posterior of the spot's position (dots; the truth is a cross)."""
    shown = sf.simulate(camera, 6, seed=4)
    draws = posterior.sample(shown.y, 300, seed=1)
    figure, axes = plt.subplots(3, 6, figsize=(9, 4.8), sharex=True, sharey=True, layout="constrained")
    for k, column in enumerate(axes.T):
        pictures = (shown.y[k], model.reconstruct(shown.y[k])[0], shown.y[k])
        for part, picture in zip(column, pictures, strict=True):
            part.imshow(picture, cmap="gray_r", vmin=0, vmax=15)
        column[2].scatter(draws["across"][k], draws["down"][k], s=2, color="tab:orange")
        column[2].plot(*shown.theta[k, :2], "+", color="tab:blue", markersize=9, markeredgewidth=2)
    for part, name in zip(axes[:, 0], ("picture", "reconstructed", "posterior"), strict=True):
        part.set(ylabel=name, xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    pictures = sf.simulate(camera, 10_000, seed=1).y
    model = vae.VAE(event_shape=(12, 12), latent=6, likelihood="poisson", encoder="full_rank", seed=0)
    model.fit(pictures, epochs=EPOCHS, warmup=EPOCHS // 3)
    known, fresh = sf.simulate(camera, KNOWN, seed=2), sf.simulate(camera, 2000, seed=3)
    for name, summary in (("a summary network from the start", None), ("the autoencoder's encoder", model)):
        posterior = sf.fit(camera, simulations=known, seed=1, summary=summary, say=None)
        density = posterior.log_prob(fresh.theta, fresh.y).mean()
        print(f"{KNOWN} pictures with parameters and {name}: {density:.2f} nats on held-out ones")
    draw(model, posterior, "images.png")
