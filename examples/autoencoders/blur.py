"""Why pictures come out blurred, and what helps: squared error is a Gaussian likelihood with its standard
deviation fixed at 1, far above the noise of the pictures.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 150))
LATENT = 16

training, test = train_test_split(load_digits().images / 16, test_size=360, random_state=0)


def sharpness(pictures: np.ndarray) -> float:
    """The mean energy of the discrete Laplacian, which blurring removes first."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    around = padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2]
    return float(np.square(4 * pictures - around).sum(axis=(1, 2)).mean())


if __name__ == "__main__":
    rows = {"data": test[:12]}
    for name, sd in (("sd 1: the squared error", 1.0), ("sd 0.3", 0.3), ("sd learned", "learned")):
        model = vae.VAE(event_shape=(8, 8), latent=LATENT, likelihood=vae.Gaussian(sd=sd), seed=0)
        model.fit(training, epochs=EPOCHS, warmup=EPOCHS // 3)
        again = model.reconstruct(test)
        ratio, used = sharpness(again) / sharpness(test), model.active_units(test).sum()
        print(f"{name}: Laplacian energy {ratio:.2f} of the data's, {used} of {LATENT} latent numbers used")
        rows[f"{name}\n(sharpness {ratio:.2f})"] = again[:12]

    figure, axes = plt.subplots(len(rows), figsize=(7.5, 2.9), layout="constrained")
    for part, (name, pictures) in zip(axes, rows.items(), strict=True):
        part.imshow(
            np.hstack(np.pad(pictures, ((0, 0), (1, 1), (1, 1)), constant_values=0.5)),
            cmap="gray_r",
            vmin=0,
            vmax=1,
        )
        part.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        part.set_xticks([])
        part.set_yticks([])
    figure.savefig("blur.png", dpi=150)
