"""What the caller has set in torch does not matter, and is as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform
from torch import nn

import sbi_flows as sf
from sbi_flows import flows
from sbi_flows.machine import torch_defaults

Scope = Callable[[], object]


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def all_at_once() -> Iterator[None]:
    with float64(), torch.no_grad(), torch.device("meta"):
        yield


SCOPES = {
    "float64": float64,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "device": lambda: torch.device("meta"),
}
each_scope = pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES.keys())


def model(*, shape: tuple[int, ...], data: object = None) -> sf.Simulator:
    @sf.simulator(sf.Prior(a=uniform(0, 1), b=norm(0, 1)), data=data, event_shape=shape)
    def model(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        n = len(theta["a"])
        centre = (theta["a"] + theta["b"]).reshape(n, *(1 for _ in shape))
        return np.asarray(centre + rng.standard_normal((n, *shape)))

    return model


def settings(flow: Any) -> sf.FitSettings:
    return sf.FitSettings(
        width=16, layers=2, summary_features=8, members=1, flow=flow, train=sf.TrainSettings(epochs=1)
    )


class Net(nn.Module):
    """A network of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(y)
        return out


FITS: dict[str, Callable[[], sf.Posterior]] = {
    "nsf": lambda: sf.fit(model(shape=(4,)), n_simulations=200, settings=settings("nsf"), say=None),
    "series with gaps": lambda: sf.fit(
        model(shape=(9,), data=sf.Series()),
        observe=sf.gaps(0.2),
        n_simulations=200,
        settings=settings("maf"),
        say=None,
    ),
    "set": lambda: sf.fit(
        sf.replicates(model(shape=(2,)), 1, 3), n_simulations=200, settings=settings("maf"), say=None
    ),
}


def bytes_of(posterior: sf.Posterior, path: Path) -> bytes:
    posterior.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, np.ndarray]]:
    """The file and the draws of each fit, with torch as it starts."""
    folder, found = tmp_path_factory.mktemp("plain"), {}
    for name, fit in FITS.items():
        posterior = fit()
        found[name] = bytes_of(posterior, folder / "p.safetensors"), draws_of(posterior)
    return found


def draws_of(posterior: sf.Posterior) -> np.ndarray:
    y = np.linspace(-1, 1, int(np.prod(posterior.event_shape))).reshape(posterior.event_shape)
    return posterior.sample(y, 20, seed=1).values


@pytest.mark.parametrize(
    ("name", "scope"), [*((name, all_at_once) for name in FITS), ("nsf", torch.inference_mode)]
)
def test_a_fit_is_the_same_bytes(
    name: str, scope: Scope, plain: dict[str, tuple[bytes, np.ndarray]], tmp_path: Path
) -> None:
    with scope():  # type: ignore[attr-defined]
        posterior = FITS[name]()
        file, drawn = bytes_of(posterior, tmp_path / "p.safetensors"), draws_of(posterior)
        loaded = draws_of(sf.load(tmp_path / "p.safetensors"))
    assert file == plain[name][0]
    np.testing.assert_array_equal(drawn, plain[name][1])
    np.testing.assert_array_equal(loaded, plain[name][1])
    np.testing.assert_array_equal(draws_of(posterior), plain[name][1])


@each_scope
def test_methods_of_a_posterior_give_the_same_numbers(scope: Scope, bounded_posterior: sf.Posterior) -> None:
    def numbers() -> list[np.ndarray]:
        y, theta = np.array([[0.5, 0.1, 0.2], [0.2, 1.0, 0.1]]), np.array([[0.5, 0.5], [0.5, -0.5]])
        return [
            bounded_posterior.sample(y, 30, seed=2).values,
            bounded_posterior.log_prob(theta, y),
            bounded_posterior.log_prob_of(theta, y),
            bounded_posterior.summaries(y),
            bounded_posterior.sample_members(y[0], 30),
            *bounded_posterior.noise(theta, y),
            np.array([verdict.quantile for verdict in bounded_posterior.verdicts(y)]),
        ]

    before = numbers()
    with scope():  # type: ignore[attr-defined]
        inside = numbers()
    for one, other in zip(before, inside, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("kind", "scope"), [("matching", all_at_once), ("nsf", torch.inference_mode)])
def test_a_density_is_the_same(kind: str, scope: Scope) -> None:
    x = np.random.default_rng(0).standard_normal((100, 2))

    def numbers() -> list[np.ndarray]:
        density = flows.fit_density(x, kind, width=8, layers=2, settings=sf.TrainSettings(epochs=1))
        return [density.log_prob(x[:9]), density.sample(9), density.to_noise(x[:9]), density.log_det(x[:9])]

    before = numbers()
    with scope():  # type: ignore[attr-defined]
        inside = numbers()
    for one, other in zip(before, inside, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_of_the_users_own_is_trained_all_the_same() -> None:
    simulator = model(shape=(4,))

    def numbers() -> list[np.ndarray]:
        posterior = sf.fit(simulator, n_simulations=200, summary=Net(), settings=settings("maf"), say=None)
        return [posterior.sample(np.zeros(4), 9).values]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        (before,) = numbers()
        torch.manual_seed(0)
        with torch.no_grad():
            (inside,) = numbers()
    np.testing.assert_array_equal(before, inside)


def test_a_check_in_float64(bounded: sf.Simulator, bounded_posterior: sf.Posterior) -> None:
    with float64():
        inside = sf.check(bounded_posterior, bounded, n=100)
    assert inside.ok == sf.check(bounded_posterior, bounded, n=100).ok


def test_what_was_set_is_set_again_also_after_an_error() -> None:
    with float64(), torch.no_grad():
        with suppress(ZeroDivisionError), torch_defaults():
            assert torch.get_default_dtype() == torch.float32
            assert torch.is_grad_enabled()
            raise ZeroDivisionError
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()
