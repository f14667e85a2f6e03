"""A summary network of the user's own: what it is given, what is refused, and that it is passed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform
from torch import Tensor, nn

import sbi_flows as sf
from sbi_flows.errors import SettingsError

PRIOR = sf.Prior(a=norm(0, 1), b=uniform(0, 1))
QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=2)
)
pytestmark = pytest.mark.seeds_torch


@pytest.fixture(autouse=True)
def seeded() -> Any:
    """The user's modules draw their first weights from torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Net(nn.Module):
    """A linear map of y, and of the mask if there is one."""

    def __init__(self, inputs: int = 6, outputs: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.given: list[tuple[int, ...]] = []

    def forward(self, *parts: Tensor) -> Tensor:
        self.given.append(tuple(parts[0].shape[1:]))
        out: Tensor = self.linear(torch.cat([part.flatten(1) for part in parts], dim=1))
        return out


class Returning(nn.Module):
    """What a function makes of y."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, y: Tensor) -> Any:
        return self.function(y)


class OfTables(nn.Module):
    """A network of mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * (6 + 2), 3)

    def forward(self, y: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        parts = [part[name].flatten(1) for name in ("s", "v") for part in (y, mask)]
        out: Tensor = self.linear(torch.cat(parts, dim=1))
        return out


def make(data: Any = None, **options: Any) -> sf.Simulator:
    @sf.simulator(PRIOR, data=data, event_shape=(6,), **options)
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 6)))

    return model


def fit(simulator: sf.Simulator, summary: Any, **options: Any) -> sf.Posterior:
    return sf.fit(simulator, n_simulations=300, summary=summary, settings=QUICK, say=None, **options)


Y = np.linspace(-1, 1, 6)


@pytest.mark.parametrize(
    ("data", "shape"),
    [(sf.Vector(), (6,)), (sf.Series(), (6, 1)), (sf.Set(), (6, 1)), (sf.Grid(), (6, 1))],
    ids=str,
)
def test_it_is_given_scaled_y_in_its_shape(data: Any, shape: tuple[int, ...]) -> None:
    posterior = fit(make(data), Net())
    (module,) = (part for part in posterior.estimator.modules() if isinstance(part, Net))
    assert set(module.given) == {shape}
    assert np.isfinite(posterior.sample(Y, 10).values).all()
    assert posterior.summaries(Y).shape == (4,)


def test_it_is_trained_as_a_copy() -> None:
    net = Net()
    before = net.linear.weight.detach().clone()
    posterior = fit(make(), net)
    (module,) = (part for part in posterior.estimator.modules() if isinstance(part, Net))
    assert torch.equal(net.linear.weight, before)
    assert not net.given
    assert not torch.equal(module.linear.weight.float(), before)


def test_it_is_passed_again_and_the_file_has_its_weights(tmp_path: Path) -> None:
    posterior, path = fit(make(), Net()), tmp_path / "p.safetensors"
    posterior.save(path)
    loaded = sf.load(path, summary=Net())
    np.testing.assert_array_equal(loaded.sample(Y, 10).values, posterior.sample(Y, 10).values)
    for summary, words in [
        (None, r"sf.load\(path, summary=Net\(...\)\)"),
        (Net(outputs=5), "does not fit the weights"),
        (nn.Flatten(), "summary=Flatten returned|does not fit"),
        (Net(inputs=7), "summary=Net raised RuntimeError"),
    ]:
        with pytest.raises(SettingsError, match=words):
            sf.load(path, summary=summary)


def test_a_posterior_without_one_takes_none(tmp_path: Path) -> None:
    sf.fit(make(), n_simulations=300, settings=QUICK, say=None).save(tmp_path / "p.safetensors")
    with pytest.raises(SettingsError, match="leave out summary="):
        sf.load(tmp_path / "p.safetensors", summary=Net())


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (lambda: Net(inputs=5), r"summary=Net raised RuntimeError for scaled data of shape \(3, 6\): "),
        (
            lambda: Returning(lambda y: y[..., None]),
            r"returned \(3, 6, 1\) for 3 rows; wanted a tensor \(3, k\)",
        ),
        (lambda: Returning(lambda y: y.mean(0, keepdim=True)), r"returned \(1, 6\)"),
        (lambda: Returning(lambda y: y.mean()), r"returned \(\)"),
        (lambda: Returning(lambda y: y[:, :0]), r"returned \(3, 0\)"),
        (lambda: Returning(lambda y: y.numpy()), "returned ndarray"),
        (lambda: Net, "must be a torch module, or an autoencoder.*got type"),
        (lambda: lambda y: y, "got function"),
    ],
)
def test_networks_that_do_not_take_the_data_are_refused(summary: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        fit(make(sf.Vector()), summary())


def test_with_gaps_it_gets_a_mask() -> None:
    posterior = fit(make(), Net(inputs=12), observe=sf.gaps(0.2))
    gappy = np.where(np.arange(6) == 2, np.nan, Y)
    assert np.isfinite(posterior.sample(gappy, 10).values).all()
    with pytest.raises(SettingsError, match=r"shape \(3, 6\) and a mask of that shape: "):
        fit(make(sf.Vector()), Returning(lambda y: y), observe=sf.gaps(0.2))


def test_of_a_mapping_it_gets_mappings(tmp_path: Path) -> None:
    @sf.simulator(PRIOR, data={"s": sf.Series(), "v": sf.Vector()}, missing=True)
    def tables(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
        n = len(theta["a"])
        s = theta["a"][:, None] + rng.standard_normal((n, 6))
        s[rng.random(s.shape) < 0.2] = np.nan
        return {"s": s, "v": rng.standard_normal((n, 2))}

    posterior = fit(tables, OfTables())
    y = {"s": np.where(np.arange(6) == 2, np.nan, Y), "v": [0.0, 1.0]}
    posterior.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors", summary=OfTables())
    np.testing.assert_array_equal(loaded.sample(y, 10).values, posterior.sample(y, 10).values)
    with pytest.raises(SettingsError, match="'s': .*'v': "):
        fit(tables, Net())


def test_declared_summaries_join() -> None:
    simulator = make(summaries=lambda y: np.stack([y.mean(axis=1), y.std(axis=1)], axis=1))
    posterior = fit(simulator, Net())
    assert posterior.declared_summaries == 2
    assert np.isfinite(posterior.sample(Y, 10).values).all()


def test_members_begin_from_other_weights() -> None:
    settings = sf.FitSettings(
        width=16, layers=2, summary_features=8, members=2, flow="maf", train=sf.TrainSettings(epochs=1)
    )
    posterior = sf.fit(make(), n_simulations=300, summary=Net(), settings=settings, say=None)
    one, other = (part for part in posterior.estimator.modules() if isinstance(part, Net))
    assert not torch.allclose(one.linear.weight, other.linear.weight, atol=1e-2)
