"""A Lorenz attractor that noise drives, seen with gaps: a latent SDE fills them in, goes on from where the data end, and dreams its own."""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 250))
FINE = 500  # steps a unit of time of the simulator
LAST = 1.5  # what the model sees ends here


def lorenz(n: int, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """n paths of dx = 10 (y - x) dt + 3 dW, dy = (x (28 - z) - y) dt + 3 dW, dz = (x y - 8 z / 3) dt + 3 dW at `times`, (n, T, 3)."""
    state = np.array([0.0, 0.0, 25.0]) + 8 * rng.standard_normal((n, 3))
    path, burn_in = [], 2 * FINE
    for _ in range(burn_in + round(times[-1] * FINE) + 1):
        path.append(state)
        x, y, z = state.T
        drift = np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)
        state = state + drift / FINE + 3 * rng.standard_normal((n, 3)) / FINE**0.5
    return np.stack(path, axis=1)[:, burn_in + np.round(times * FINE).astype(int)]


def seen(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal with noise of sd 1; three in ten of its numbers are missing."""
    noisy = signal + rng.standard_normal(signal.shape)
    return np.where(rng.random(signal.shape) < 0.3, np.nan, noisy)


def draw(model: vae.LatentSDE, truth: np.ndarray, x: np.ndarray, times: np.ndarray, later: np.ndarray, path: str) -> float:
    """Draw one series and its paths, and paths of the prior beside data; return the share of all true values that the 90% bands hold."""
    known = times <= LAST
    within = np.linspace(0, LAST, 121)
    filled = model.reconstruct(times[known], x[:, known], 100, at=within)
    ahead = model.extrapolate(times[known], x[:, known], later, 100)
    figure = plt.figure(figsize=(10, 5.4), layout="constrained")
    grid = figure.add_gridspec(6, 2, width_ratios=[1.6, 1])
    for j, name in enumerate("xyz"):
        axes = figure.add_subplot(grid[2 * j : 2 * j + 2, 0])
        for paths, colour, label in ((filled, "C0", "reconstructed"), (ahead, "C1", "extrapolated")):
            low, high = paths.band(0.9)
            axes.fill_between(paths.times[0], low[0, :, j], high[0, :, j], color=colour, alpha=0.3, lw=0, label=f"{label}, 90%")
            axes.plot(paths.times[0], paths.signal[0, :3, :, j].T, color=colour, lw=0.7)
        axes.plot(times, truth[0, :, j], "k--", lw=1, label="truth")
        axes.plot(times[known], x[0, known, j], "k.", ms=4, label="observed")
        axes.set_ylabel(name, rotation=0)
        if j == 0:
            axes.legend(ncols=4, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set_xlabel("time")
    dreamt = model.prior_paths(within, 20, seed=1).signal[0]
    for i, (name, several) in enumerate((("simulated", truth[:20]), ("20 paths of the fitted prior", dreamt))):
        axes = figure.add_subplot(grid[3 * i : 3 * i + 3, 1])
        axes.plot(several[..., 0].T, several[..., 2].T, lw=0.6, color="0.3" if i == 0 else "C2")
        axes.set(xlim=(-24, 24), ylim=(0, 52), xlabel="x", ylabel="z", title=name)
    figure.savefig(path, dpi=130)
    low, high = model.reconstruct(times[known], x[:, known], 100).band(0.9)
    return float(((low < truth[:, known]) & (truth[:, known] < high)).mean())


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    times = np.arange(0, 2.26, 0.05)
    known, later = times <= LAST, times[times >= LAST]
    signal = lorenz(560, times, rng)
    x = seen(signal, rng)
    training, test = x[:512, known], x[512:]
    model = vae.LatentSDE(features=3, latent=3, seed=0, settings=vae.SDESettings(dt=0.025, hidden=64, context=48))
    model.fit(times[known], training[32:], training[:32], epochs=EPOCHS, warmup=EPOCHS // 4)
    bound = model.elbo(times[known], test[:, known]).bound.mean()
    weighted = model.log_evidence(times[known], test[:, known], 50).log_evidence.mean()
    share = draw(model, signal[512:], test, times, later, "latent_sde.png")
    sd = float(model.module.decoder.free.detach().exp()[0])
    print(f"bound {bound:.1f} nats a test series, by 50 weighted paths {weighted:.1f}; noise sd {sd:.2f} (truth 1)")
    print(f"90% bands of the reconstruction hold {share:.0%} of the true values")
