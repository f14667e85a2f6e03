"""Clusters of digits, found without their labels: the prior of the latent numbers is a Gaussian mixture."""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import train_test_split

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 150))
CLUSTERS, SHOWN = 10, 12

images, classes = load_digits().images, load_digits().target
training, test, training_classes, test_classes = train_test_split(
    images, classes, test_size=360, random_state=0, stratify=classes
)


def strip(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, 8, 8) side by side, room for `SHOWN` of them."""
    padded = np.pad(pictures, ((0, SHOWN - len(pictures)), (0, 0), (0, 0)))
    return np.hstack(np.pad(padded, ((0, 0), (1, 1), (1, 1)), constant_values=4.0))


if __name__ == "__main__":
    model = vae.ClusterVAE(
        clusters=CLUSTERS, event_shape=(8, 8), latent=10, likelihood=vae.Binomial(16), seed=0
    )
    model.fit(training, epochs=EPOCHS, tuning_epochs=max(EPOCHS // 3, 1))
    found, of_test = model.assign(training), model.assign(test)
    pixels = KMeans(CLUSTERS, n_init=10, random_state=0).fit_predict(training.reshape(-1, 64))
    score = normalized_mutual_info_score
    print(f"normalised mutual information with the classes: {score(training_classes, found):.3f}")
    print(f"on held-out digits: {score(test_classes, of_test):.3f}")
    print(f"k-means on the pixels: {score(training_classes, pixels):.3f}")

    z = model.latent_mean(test)
    centres = model.mixture.means.detach().numpy()
    middle, axes_of_z = centres.mean(axis=0), np.linalg.svd(centres - centres.mean(axis=0))[2][:2]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    left.scatter(
        *((z - middle) @ axes_of_z.T).T, c=of_test, cmap="tab10", s=10, vmin=-0.5, vmax=CLUSTERS - 0.5
    )
    style = {"ha": "center", "va": "center", "weight": "bold"}
    circle = {"boxstyle": "circle", "fc": "white", "alpha": 0.8}
    for cluster, (x, y) in enumerate((centres - middle) @ axes_of_z.T):
        left.text(x, y, str(cluster), bbox=circle, **style)
    left.set(xticks=[], yticks=[], title="E[z | x] of test digits, by cluster")
    left.set_xlabel("the plane in which the centres lie furthest apart")
    rows = []
    for c in range(CLUSTERS):
        members = test[of_test == c][: SHOWN - 1]
        rows.append(strip(np.concatenate([model.decode(centres[[c]]), members])))
    right.imshow(np.vstack(rows), cmap="gray_r", vmin=0, vmax=16)
    right.axvline(9.5, color="tab:red", linewidth=1)
    right.set_xticks([5], labels=["centre"])
    right.set_yticks(np.arange(CLUSTERS) * 10 + 4.5, labels=range(CLUSTERS))
    right.set_title("each cluster: its decoded centre, and test digits in it")
    figure.savefig("clusters.png", dpi=150)
