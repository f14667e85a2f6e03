"""A Lorenz attractor driven by noise, observed with gaps: a latent SDE fills them in, extrapolates beyond the
data, and draws paths of its own.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 100))
FINE = 500  # steps of the simulator per unit of time
LAST = 1.5  # the time of the last observation that the model sees
TIMES = np.arange(181) / 80  # times of the drawing
EVERY = 4  # one in this many of them has an observation


def lorenz(n: int, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """n paths at `times`, (n, T, 3), of

    dx = 10 (y - x) dt + 3 dW,    dy = (x (28 - z) - y) dt + 3 dW,    dz = (x y - 8 z / 3) dt + 3 dW
    """
    state = np.array([0.0, 0.0, 25.0]) + 8 * rng.standard_normal((n, 3))
    path, burn_in = [], 2 * FINE
    for _ in range(burn_in + round(times[-1] * FINE) + 1):
        path.append(state)
        x, y, z = state.T
        drift = np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)
        state = state + drift / FINE + 3 * rng.standard_normal((n, 3)) / FINE**0.5
    return np.stack(path, axis=1)[:, burn_in + np.round(times * FINE).astype(int)]


def observed(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal with noise of sd 1; three numbers in ten are missing."""
    noisy = signal + rng.standard_normal(signal.shape)
    return np.where(rng.random(signal.shape) < 0.3, np.nan, noisy)


def draw(model: vae.LatentSDE, signal: np.ndarray, x: np.ndarray, path: str) -> float:
    """Draw one series with its paths, and paths of the prior next to simulated ones.

    Return the share of all true values inside the 90% bands.
    """
    known = TIMES[::EVERY] <= LAST
    times = TIMES[::EVERY][known]
    filled = model.reconstruct(times, x[:, known], 100, at=TIMES[TIMES <= LAST])
    ahead = model.extrapolate(times, x[:, known], TIMES[TIMES >= LAST], 100)
    figure = plt.figure(figsize=(10, 5.4), layout="constrained")
    grid = figure.add_gridspec(6, 2, width_ratios=[1.6, 1])
    for j, name in enumerate("xyz"):
        axes = figure.add_subplot(grid[2 * j : 2 * j + 2, 0])
        for paths, colour, label in ((filled, "C0", "reconstructed"), (ahead, "C1", "extrapolated")):
            low, high = paths.band(0.9)
            style = {"color": colour, "alpha": 0.3, "lw": 0, "label": f"{label}, 90%"}
            axes.fill_between(paths.times[0], low[0, :, j], high[0, :, j], **style)
            axes.plot(paths.times[0], paths.signal[0, :3, :, j].T, color=colour, lw=0.7)
        axes.plot(TIMES, signal[0, :, j], "k--", lw=1, label="truth")
        axes.plot(times, x[0, known, j], "k.", ms=4, label="observed")
        axes.set_ylabel(name, rotation=0)
        if j == 0:
            axes.legend(ncols=4, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set_xlabel("time")
    of_prior = model.prior_paths(TIMES[TIMES <= LAST], 20, seed=1).signal[0]
    panels = {"20 simulated paths": signal[:20, TIMES <= LAST], "20 paths of the fitted prior": of_prior}
    for i, (name, several) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[3 * i : 3 * i + 3, 1])
        axes.plot(several[..., 0].T, several[..., 2].T, lw=0.6, color="0.3" if i == 0 else "C2")
        axes.set(xlim=(-24, 24), ylim=(0, 52), xlabel="x", ylabel="z", title=name)
    figure.savefig(path, dpi=120)
    truth = signal[:, TIMES <= LAST]
    low, high = filled.band(0.9)
    return float(((low < truth) & (truth < high)).mean())


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    signal = lorenz(560, TIMES, rng)
    x = observed(signal[:, ::EVERY], rng)
    known = TIMES[::EVERY] <= LAST
    times, data, test = TIMES[::EVERY][known], x[:512, known], x[512:, known]
    model = vae.LatentSDE(features=3, latent=3, seed=0, settings=vae.SDESettings(dt=0.025, context=48))
    model.fit(times, data[32:], data[:32], epochs=EPOCHS, warmup=EPOCHS // 4)
    bound = model.elbo(times, test).bound.mean()
    weighted = model.log_evidence(times, test, 50).log_evidence.mean()
    share = draw(model, signal[512:], x[512:], "latent_sde.png")
    sd = float(model.module.decoder.free.detach().exp()[0])
    print(f"per test series: bound {bound:.1f} nats, evidence by 50 weighted paths {weighted:.1f} nats")
    print(f"noise sd {sd:.2f} (truth 1); {share:.0%} of the true values are inside the 90% bands")
