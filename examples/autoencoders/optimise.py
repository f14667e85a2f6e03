"""Pictures with more of a property: gradient ascent in latent space, and why it needs the prior.

f(z) is the lean of the picture that z decodes to. Without the prior, z leaves the region where the decoder
was trained: f still grows, but the pictures no longer resemble the data. With a heavy weight of the prior, z
goes to its mode wherever it started.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 200))
WEIGHTS = {"no prior": 0.0, "prior weight 0.1": 0.1, "prior weight 0.3": 0.3}
SHOWN = 12

images, labels = load_digits(return_X_y=True)
images = (images >= 8).reshape(-1, 8, 8)
training, test = train_test_split(images, test_size=360, random_state=0, stratify=labels)


def lean(pictures: torch.Tensor) -> torch.Tensor:
    """How far pictures (n, 8, 8) lean to the right: minus the covariance of column and row over the variance
    of the row.
    """
    ink = pictures / pictures.sum(dim=(1, 2), keepdim=True)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    row, column = (place - (ink * place).sum(dim=(1, 2), keepdim=True) for place in (row, column))
    return -(ink * row * column).sum(dim=(1, 2)) / (ink * row**2).sum(dim=(1, 2))


def leans(pictures: np.ndarray) -> np.ndarray:
    """`lean` for NumPy arrays."""
    return lean(torch.as_tensor(pictures, dtype=torch.float64)).numpy()


if __name__ == "__main__":
    model = vae.VAE(event_shape=(8, 8), latent=8, likelihood="bernoulli", seed=0)
    model.fit(training, epochs=EPOCHS, warmup=EPOCHS // 3)
    known = NearestNeighbors(n_neighbors=1, metric="cityblock").fit(training.reshape(-1, 64))
    spread = leans(training).std()
    apart = known.kneighbors(test.reshape(-1, 64))[0].mean()
    print(f"test digits: {apart:.1f} pixels from the nearest training digit")

    def worth(z: torch.Tensor) -> torch.Tensor:
        return lean(model.module.decoder.mean(z).reshape(-1, 8, 8)) / spread

    start = model.latent_mean(test)
    rows, paths = {"data": test[:SHOWN], "start": model.decode(start[:SHOWN])}, {}
    for name, weight in WEIGHTS.items():
        found = vae.optimise(model, worth, start, prior_weight=weight, steps=150)
        ends = model.decode(found.z)
        apart = known.kneighbors((ends >= 0.5).reshape(-1, 64))[0].mean()
        before, after, norm = found.values[0].mean(), found.values[-1].mean(), np.linalg.norm(found.z, axis=1)
        print(f"{name}: lean {before:.2f} -> {after:.2f} sd of the data, |z| {norm.mean():.1f}, ", end="")
        print(f"{apart:.1f} pixels from the nearest training digit")
        rows[name], paths[name] = ends[:SHOWN], found

    figure = plt.figure(figsize=(8, 5.2), layout="constrained")
    above, below = figure.subfigures(2, height_ratios=(1.5, 1))
    for part, (name, pictures) in zip(above.subplots(len(rows)), rows.items(), strict=True):
        padded = np.pad(np.asarray(pictures, dtype=float), ((0, 0), (1, 1), (1, 1)), constant_values=0.5)
        part.imshow(np.hstack(padded), cmap="gray_r", vmin=0, vmax=1)
        part.set(xticks=[], yticks=[])
        part.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    values, lengths = below.subplots(1, 2)
    for name, found in paths.items():
        values.plot(found.values.mean(axis=1), label=name)
        lengths.plot(np.linalg.norm(found.path, axis=2).mean(axis=1))
    values.set(xlabel="step", ylabel="lean f(z), sd of the data")
    lengths.set(xlabel="step", ylabel="|z|")
    lengths.axhline(np.sqrt(model.latent), color="grey", linestyle=":", label="typical under the prior")
    values.legend(fontsize=8)
    lengths.legend(fontsize=8)
    figure.savefig("optimise.png", dpi=150)
