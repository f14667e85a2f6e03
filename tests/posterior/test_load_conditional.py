"""Posteriors and banks under priors with functions: nothing in the file is code, and the prior is passed
again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.stats import halfcauchy, norm, uniform
from torch.distributions import MultivariateNormal

import sbi_flows as sf
from sbi_flows.errors import BankMismatchError, PriorError
from sbi_flows.posterior import load as loading
from tests.conftest import QUICK


def hierarchical(sd: float = 1.0) -> sf.Prior:
    return sf.Prior(
        mu=norm(0, 5),
        tau=halfcauchy(0, 5),
        theta=lambda p: sf.iid(norm(p["mu"], sd * p["tau"]), 3, labels=["A", "B", "C"]),
    )


def surveys(prior: sf.Prior) -> sf.Simulator:
    @sf.simulator(prior)
    def sites(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["theta"] + rng.standard_normal(theta["theta"].shape)

    return sites


def fitted(prior: sf.Prior) -> sf.Posterior:
    return sf.fit(surveys(prior), n_simulations=400, seed=1, settings=QUICK, say=None)


def test_a_posterior_takes_its_prior_again_and_gives_the_same_bytes(tmp_path: Path) -> None:
    posterior = fitted(hierarchical())
    posterior.save(tmp_path / "p")
    with pytest.raises(
        PriorError, match=r"prior theta: 'iid\(norm, 3\) given mu, tau'.*sf\.load\(path, prior=my"
    ):
        sf.load(tmp_path / "p")
    loaded = sf.load(tmp_path / "p", prior=hierarchical())
    y = [1.0, 2.0, 3.0]
    draws = loaded.sample(y, 50)
    assert draws.to_numpy().tobytes() == posterior.sample(y, 50).to_numpy().tobytes()
    assert loaded.log_prob(draws.values, y).tobytes() == posterior.log_prob(draws.values, y).tobytes()
    assert loaded.prior.inside(draws.values).all()
    assert draws.to_arviz()["posterior"]["theta"].coords["theta_dim_0"].values.tolist() == ["A", "B", "C"]
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "p").read_bytes()


OTHERS = {
    "another scale": (
        hierarchical(1.01),
        "theta: .*gives another distribution.*mu=.*the stored 90% range is",
    ),
    "no function": (
        sf.Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=sf.iid(norm(0, 1), 3)),
        "prior that was passed has",
    ),
    "an earlier one": (
        sf.Prior(mu=norm(0, 6), tau=halfcauchy(0, 5), theta=lambda p: sf.iid(norm(p["mu"], p["tau"]), 3)),
        "fitted with mu norm",
    ),
    "more groups": (
        sf.Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=lambda p: sf.iid(norm(p["mu"], p["tau"]), 4)),
        "3 columns, and has 4",
    ),
    "other names": (
        sf.Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), phi=sf.iid(norm(0, 1), 3)),
        "has parameters",
    ),
}


def test_another_prior_is_refused(tmp_path: Path) -> None:
    fitted(hierarchical()).save(tmp_path / "p")
    for other, words in OTHERS.values():
        with pytest.raises(PriorError, match=words):
            sf.load(tmp_path / "p", prior=other)


def test_a_prior_that_rounds_otherwise_is_the_same(tmp_path: Path) -> None:
    fitted(hierarchical()).save(tmp_path / "p")
    sf.load(tmp_path / "p", prior=hierarchical(1 + 1e-7))


def test_an_installed_plug_in_brings_its_prior(tmp_path: Path) -> None:
    fitted(hierarchical()).save(tmp_path / "p")
    with patch.object(
        loading, "find_plugin", lambda name: surveys(hierarchical()) if name == "sites" else None
    ):
        assert sf.load(tmp_path / "p").names == hierarchical().names


def test_a_bank_extends_and_takes_its_prior_again(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    first = sf.simulate(surveys(hierarchical()), 1000, seed=1, store=bank)
    more = sf.simulate(surveys(hierarchical()), 2000, seed=1, store=bank)
    assert more.theta[:1000].tobytes() == first.theta.tobytes()
    with pytest.raises(PriorError, match=r"sf\.read_bank\(path, prior="):
        sf.read_bank(bank)
    read = sf.read_bank(bank, prior=hierarchical())
    assert read.theta.tobytes() == more.theta.tobytes()
    assert read.prior.log_prob(read.theta).tobytes() == hierarchical().log_prob(more.theta).tobytes()
    with pytest.raises(PriorError, match="gives another distribution"):
        sf.read_bank(bank, prior=hierarchical(2))
    with pytest.raises(BankMismatchError, match="another campaign"):
        sf.simulate(surveys(hierarchical(2)), 2000, seed=1, store=bank)


def test_workers_draw_the_same_from_functions() -> None:
    alone = sf.simulate(surveys(hierarchical()), 3000, seed=1)
    assert sf.simulate(surveys(hierarchical()), 3000, seed=1, workers=2).y.tobytes() == alone.y.tobytes()


def test_the_record_of_a_function_is_the_same_from_any_process() -> None:
    code = """
import json, sbi_flows as sf
from scipy.stats import norm, halfcauchy, uniform
prior = sf.Prior(a=uniform(0, 1), tau=halfcauchy(0, 5), b=lambda p: sf.iid(norm(p["a"], p["tau"]), 2))
print(json.dumps(prior.to_json(), allow_nan=False))
"""
    prior = sf.Prior(
        a=uniform(0, 1), tau=halfcauchy(0, 5), b=lambda p: sf.iid(norm(loc=p["a"], scale=p["tau"]), 2)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == prior.to_json()


def test_simulating_under_functions_loads_no_torch() -> None:
    code = """
import sys, sbi_flows as sf
from scipy.stats import norm
prior = sf.Prior(a=norm(0, 1), b=lambda p: sf.iid(norm(p["a"], 1), 2))
prior.to_unconstrained(prior.sample(3, __import__("numpy").random.default_rng(0)))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_of_before_keeps_its_map_and_a_new_one_is_whitened(tmp_path: Path) -> None:
    """What `to_json` says of the distribution is the same; the map is another key."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 2.0]])
    prior = sf.Prior(w=MultivariateNormal(torch.tensor([1.0, -2.0]), covariance))
    old = sf.Prior.from_json(prior.to_json(), stored_maps=True)
    new = sf.Prior.from_json(prior.to_json(maps=True), stored_maps=True)
    theta = prior.sample(5, np.random.default_rng(0))
    assert old == new == prior
    assert new.to_unconstrained(theta)[0].tobytes() == prior.to_unconstrained(theta)[0].tobytes()
    assert not np.allclose(old.to_unconstrained(theta)[0], prior.to_unconstrained(theta)[0])
    root = np.linalg.cholesky(covariance.double().numpy())
    z, log_det = prior.to_unconstrained(theta)
    np.testing.assert_allclose(z, np.linalg.solve(root, (theta - [1, -2]).T).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_det, -np.linalg.slogdet(root)[1], rtol=1e-6)

    @sf.simulator(prior)
    def pair(theta: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        return theta["w"] + rng.standard_normal(theta["w"].shape)

    def of_before(self: sf.Prior, *, maps: bool = False) -> list[dict[str, Any]]:
        del maps
        return written(self)

    written = sf.Prior.to_json
    pair.prior = old
    with patch.object(sf.Prior, "to_json", of_before):
        posterior = sf.fit(pair, n_simulations=400, seed=1, settings=QUICK, say=None)
        posterior.save(tmp_path / "old")
    wanted = posterior.sample([0.0, 1.0], 20).to_numpy().tobytes()
    for passed in (None, prior):
        loaded = sf.load(tmp_path / "old", prior=passed)
        assert loaded.sample([0.0, 1.0], 20).to_numpy().tobytes() == wanted
