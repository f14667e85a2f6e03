"""What seeds gave before the package was laid out anew, and files of that time: `tests/test_unchanged.py`
compares.

python -m tests.unchanged tests/data/first_format      writes both anew: only where a number has to change,
and is named
python -m tests.unchanged tests/data/free_ends.npz      what is trained anew since splines have free ends: its
numbers differ from those of the first format, whose files still give theirs
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows import flows, vae
from sbi_flows.nets.series import Pooling

PRIOR = sf.Prior(a=uniform(-1, 2), b=norm(0, 1))
TRAIN = sf.TrainSettings(epochs=3, batch_size=64, optimiser="adamw")


@sf.simulator(PRIOR, event_shape=(4,))
def curved(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Four numbers whose mean is quadratic."""
    a, b = theta["a"], theta["b"]
    return np.stack([a, b, a * a, a + b], axis=1) + 0.3 * rng.standard_normal((len(a), 4))


@sf.simulator(PRIOR, event_shape=(24,))
def counted(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A series of counts."""
    rates = np.exp(theta["b"][:, None] + np.sin(np.arange(24) * (1 + theta["a"][:, None])))
    return rng.poisson(np.minimum(rates, 1e3))


FITS = {
    "curved": (curved, sf.FitSettings(flow="nsf", size="small", members=1, train=TRAIN)),
    "counted": (counted, sf.FitSettings(flow="nsf", size="small", members=2, summary="series", train=TRAIN)),
}


def machine() -> str:
    """What floating point depends on: the same bytes are asked for only where this is the same."""
    model = (
        [row for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
        if Path("/proc").exists()
        else []
    )
    capability = torch.backends.cpu.get_cpu_capability()
    return " | ".join(
        [platform.machine(), *model[:1], capability, f"torch {torch.__version__}", f"numpy {np.__version__}"]
    )


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def fit(name: str, checkpoint: Path | None = None) -> sf.Posterior:
    simulator, settings = FITS[name]
    options = {"seed": 5, "settings": settings, "checkpoint": checkpoint, "say": None}
    with patch.object(Pooling, "start", True):  # the series network of that time
        return sf.fit(simulator, n_simulations=1200, **options)


def observed(name: str) -> np.ndarray:
    return sf.simulate(FITS[name][0], 3, seed=9).y


def numbers_of(name: str, posterior: sf.Posterior) -> dict[str, np.ndarray]:
    """Weights, draws, densities and verdicts, and the simulations behind them."""
    y = observed(name)
    draws = posterior.sample(y, 300, seed=2)
    whole = posterior.estimator.state_dict()
    state = {key: value for key, value in whole.items() if not key.endswith(".pooled")}
    if len(posterior.estimator.members) == 1:  # of one network there were no mixture weights
        del state["mixture_weights"]
    simulations = sf.simulate(FITS[name][0], 1200, seed=5)
    return {
        f"{name}/theta": simulations.theta,
        f"{name}/y": simulations.y,
        f"{name}/weights": np.concatenate([state[key].numpy().ravel() for key in sorted(state)]),
        f"{name}/draws": draws.to_numpy(),
        f"{name}/log_prob": posterior.log_prob(draws.to_numpy(), y),
        f"{name}/verdicts": np.array([verdict.quantile for verdict in draws.verdicts]),
    }


def bank_digest(folder: Path) -> str:
    """Of the shards of a bank: names and bytes."""
    shards = sorted(path for path in folder.rglob("*.safetensors"))
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in shards)).hexdigest()


def bank(folder: Path) -> str:
    sf.simulate(counted, 1000, seed=5, store=folder)
    return bank_digest(folder)


def density() -> np.ndarray:
    x = np.random.default_rng(0).gamma(2.0, size=(600, 2))
    found = flows.fit_density(x, "nsf", seed=3, settings=TRAIN)
    return np.column_stack([found.log_prob(x), found.sample(600, seed=4)])


def autoencoders() -> dict[str, vae.VAE | vae.SentenceVAE | vae.LatentSDE]:
    x = np.random.default_rng(1).poisson(3.0, size=(120, 6))
    series = np.random.default_rng(2).standard_normal((60, 8, 1)).cumsum(axis=1)
    options = {"event_shape": (6,), "likelihood": "poisson", "encoder": "iaf", "seed": 1}
    models = {
        "vae": vae.VAE(latent=2, **options),
        "cluster": vae.ClusterVAE(latent=2, clusters=3, **{**options, "encoder": "diagonal"}),
        "hierarchical": vae.HierarchicalVAE(latent=(2, 1), **{**options, "encoder": "diagonal"}),
    }
    for model in models.values():
        model.fit(x, epochs=2)
    sentences = vae.SentenceVAE(latent=2, seed=1)
    sentences.fit(
        [
            f"the {a} {b}".split()
            for a in ("cat", "dog", "owl", "hen", "fox")
            for b in ("ran", "sat", "fed", "hid", "won")
        ]
        * 3,
        epochs=2,
    )
    sde = vae.LatentSDE(features=1, latent=1, seed=1)
    sde.fit(np.arange(8.0), series, epochs=2)
    return {**models, "sentences": sentences, "sde": sde}


def elbo_of(name: str, model: object) -> np.ndarray:
    """The bound on a few events of its own."""
    if name == "sde":
        x = np.random.default_rng(2).standard_normal((60, 8, 1)).cumsum(axis=1)
        return model.elbo(np.arange(8.0), x[:5], 8).bound  # type: ignore[attr-defined]
    if name == "sentences":
        return model.elbo([["the", "cat", "ran"], ["the", "fox", "won"]], 8).bound  # type: ignore[attr-defined]
    return model.elbo(np.random.default_rng(1).poisson(3.0, size=(5, 6)), 8).bound  # type: ignore[attr-defined]


def write_numbers(path: Path, found: dict[str, np.ndarray], **more: str) -> None:
    """Digests of all, and the numbers themselves where they are few."""
    digests = {f"{key}/sha256": np.array(digest(value)) for key, value in found.items()}
    few = {key: value for key, value in found.items() if not key.endswith(("/theta", "/y", "/weights"))}
    np.savez_compressed(path, machine=machine(), **more, **few, **digests)


def write_trained(path: Path) -> None:
    """What fits of fixed seeds give."""
    found = {"density": density()}
    for name in FITS:
        found |= numbers_of(name, fit(name))
    write_numbers(path, found)


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    found: dict[str, np.ndarray] = {"density": density()}
    for name in FITS:
        posterior = fit(name)
        posterior.save(folder / f"{name}.safetensors")
        found |= numbers_of(name, posterior)
    fit("curved", checkpoint=folder / "curved.checkpoint")
    for name, model in autoencoders().items():
        model.save(folder / f"{name}.safetensors")
        found[f"{name}/elbo"] = elbo_of(name, model)
    write_numbers(folder / "numbers.npz", found, bank=bank(folder / "counted.bank"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (write_trained if target.suffix == ".npz" else write)(target)
