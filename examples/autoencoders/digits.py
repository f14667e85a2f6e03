"""Digits of 8 x 8 pixels: reconstructed, sampled, interpolated, and made to lean by an attribute vector.

A second picture maps a latent space of two numbers.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 300))

images, labels = load_digits(return_X_y=True)
images = (images >= 8).reshape(-1, 8, 8)
training, test, _, test_labels = train_test_split(
    images, labels, test_size=360, random_state=0, stratify=labels
)


def slant(x: np.ndarray) -> np.ndarray:
    """How far pictures (n, 8, 8) lean to the right: minus the covariance of column and row over the variance
    of the row.
    """
    ink = x / x.sum(axis=(1, 2), keepdims=True)
    row, column = np.mgrid[:8, :8]
    at_row, at_column = (ink * row).sum(axis=(1, 2)), (ink * column).sum(axis=(1, 2))
    row, column = row - at_row[:, None, None], column - at_column[:, None, None]
    return -(ink * row * column).sum(axis=(1, 2)) / (ink * row**2).sum(axis=(1, 2))


def strip(axes: plt.Axes, pictures: np.ndarray, name: str) -> None:
    """A row of pictures with a name."""
    axes.imshow(
        np.hstack(np.pad(pictures.astype(float), ((0, 0), (1, 1), (1, 1)), constant_values=0.5)),
        cmap="gray_r",
        vmin=0,
        vmax=1,
    )
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def applications(model: vae.VAE, path: str) -> float:
    """Draw one row per application; return the share of steps along the attribute vector that lean a digit
    further.
    """
    lean = vae.attribute_vector(model, training, slant(training))
    z = model.latent_mean(test)
    edits = np.stack([model.decode(z + a * lean) for a in np.linspace(0, 3, 10)])
    one, seven = test[test_labels == 0][0], test[test_labels == 7][0]
    rows = {
        "data": test[:10],
        "reconstructed": model.reconstruct(test[:10]),
        "sampled": model.decode(np.random.default_rng(0).standard_normal((10, model.latent))),
        "linear path": model.interpolate(one, seven, 10),
        "spherical path": model.interpolate(one, seven, 10, path="spherical"),
        "leaning": edits[:, 2],
    }
    figure, axes = plt.subplots(len(rows), figsize=(7, 4.6), layout="constrained")
    for part, (name, pictures) in zip(axes, rows.items(), strict=True):
        strip(part, pictures, name)
    figure.savefig(path, dpi=150)
    leans = np.stack([slant(pictures) for pictures in edits])
    return float((np.diff(leans, axis=0) > 0).mean())


def latent_map(path: str) -> None:
    """Two latent numbers: above, the pictures that they decode to; below, where the test digits lie."""
    model = vae.VAE(event_shape=(8, 8), latent=2, likelihood="bernoulli", encoder="full_rank", seed=0)
    model.fit(training, epochs=EPOCHS, warmup=EPOCHS // 3)
    side = np.linspace(-2.2, 2.2, 15)
    grid = np.stack(np.meshgrid(side, side[::-1]), axis=-1).reshape(-1, 2)
    padded = np.pad(model.decode(grid), ((0, 0), (1, 1), (1, 1)))
    pictures = padded.reshape(15, 15, 10, 10).transpose(0, 2, 1, 3).reshape(150, 150)
    figure, (above, below) = plt.subplots(2, figsize=(4.6, 8.6), layout="constrained")
    above.imshow(pictures, cmap="gray_r", extent=(-2.35, 2.35, -2.35, 2.35))
    z = model.latent_mean(test)
    points = below.scatter(*z.T, c=test_labels, cmap="tab10", s=9, vmin=-0.5, vmax=9.5)
    below.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    below.set_title("where the test digits are encoded")
    above.set(ylabel="$z_2$", title="what each z decodes to")
    figure.colorbar(points, ax=below, ticks=range(10), shrink=0.8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    model = vae.VAE(event_shape=(8, 8), latent=8, likelihood="bernoulli", encoder="iaf", seed=0)
    model.fit(training, epochs=EPOCHS, warmup=EPOCHS // 3)
    evidence = model.log_evidence(test, 500)
    bound, log_evidence = model.elbo(test).bound.mean(), evidence.log_evidence.mean()
    print(f"per test digit: bound {bound:.2f} nats, evidence {log_evidence:.2f} nats")
    print(f"{model.active_units(test).sum()} of 8 latent numbers are used")
    share = applications(model, "digits.png")
    print(f"steps along the attribute vector that lean a digit further: {share:.0%}")
    latent_map("digits_map.png")
