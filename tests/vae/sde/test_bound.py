"""What holds exactly for a latent SDE: weights of paths, bounds, solver orders, gradients, encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows import vae
from sbi_flows.rng import stream
from sbi_flows.vae.sde.bound import OnSteps, _Steered, solve
from sbi_flows.vae.sde.series import Series

from .ou import OU

F = NDArray[np.float64]

SMALL = {"width": 8, "context": 4}
TIMES = np.array([0.0, 0.1, 0.4, 0.5, 1.0])


def series(n: int = 60, seed: int = 0, missing: float = 0.2) -> F:
    """Two features, the process and its negative; each value is missing with probability `missing`."""
    rng = stream(seed, "series")
    x = OU().sample(TIMES, n, rng)
    x = np.concatenate([x, -x], axis=2)
    x[rng.random(x.shape) < missing] = np.nan
    x[0, 0] = 0.0
    return x


def made(**options: object) -> vae.LatentSDE:
    settings = {"dt": 0.1, **SMALL, **options.pop("settings", {})}  # type: ignore[dict-item]
    return vae.LatentSDE(**{"features": 2, "latent": 2, "settings": vae.SDESettings(**settings), **options})  # type: ignore[arg-type]


def steered(model: vae.LatentSDE, seed: int = 0, size: float = 0.3) -> vae.LatentSDE:
    """The model with random changes to q, so that it is far from p."""
    rng = stream(seed, "random weights")
    with torch.no_grad():
        for parameter in [*model.module.control.parameters(), *model.module.flow.parameters()]:
            parameter.add_(torch.from_numpy(size * rng.standard_normal(parameter.shape)))
    return model


@pytest.mark.parametrize("options", [{}, {"diffusion": "constant"}, {"timed": True}, {"encoder": "iaf"}])
def test_weights_of_paths_are_ratios_of_densities(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E_q[p(path) / q(path)] = 1 within 4.5 standard errors of 20,000 paths (one false alarm in 147,000).
    Without the martingale it is not.
    """
    model = steered(made(settings=options))
    x = series(1)
    x[:, 1:] = np.nan
    x[:, -1] = 0.3
    given = model._series(TIMES, x)
    noise = stream(1, "paths").standard_normal((1, 20_000, 2 * (1 + 10)))
    means = []
    steps = OnSteps(model.module, model._on_steps(given.times).counts, weighted=True)
    for martingale in (True, False):
        if not martingale:
            monkeypatch.setattr(
                _Steered, "martingale", lambda self, z, increments: torch.zeros(len(increments))
            )
        with torch.no_grad():
            weights = torch.exp(-steps.run(model._packed(given), torch.from_numpy(noise))[1][0]).numpy()
        means.append(abs(weights.mean() - 1) / (weights.std() / np.sqrt(len(weights))))
    assert means[0] < 4.5 < means[1]


def test_the_bound_is_below_the_likelihood_and_weights_estimate_it() -> None:
    """Euler steps z' = z - theta z dt + sigma sqrt(dt) e are exact steps of another OU process, with known
    likelihood.
    """
    dt, decay = 0.1, 0.9
    rate = -np.log(decay) / dt
    chain = OU(theta=rate, sigma=0.8 * np.sqrt(dt * 2 * rate / (1 - decay**2)), mean=0.0, sd=0.7)
    model = steered(OU(mean=0.0, sd=0.7).model(dt, **SMALL), size=0.1)
    x = chain.sample(TIMES, 40, stream(0, "x"))
    x[stream(0, "missing").random(x.shape) < 0.2] = np.nan
    exact = chain.log_evidence(TIMES, x)
    terms = model.elbo(TIMES, x, 200)
    assert (terms.kl_parts >= 0).all()
    assert (terms.bound < exact).all()
    weights = model.log_weights(TIMES, x, 2000)
    relative = np.exp(weights - exact[:, None])
    error = relative.std(axis=1) / np.sqrt(2000)
    assert (np.abs(relative.mean(axis=1) - 1) / error).max() < 5.0
    # The mean log weight is the bound: the martingale has mean zero.
    assert (
        np.abs(weights.mean(axis=1) - terms.bound).max()
        < 5 * (weights.std(axis=1) * np.sqrt(1 / 2000 + 1 / 200)).max()
    )


def test_before_a_fit_paths_of_q_are_paths_of_p() -> None:
    terms = made().elbo(TIMES, series(5))
    assert (terms.kl_parts[:, 1] == 0).all()
    assert (terms.kl_parts[:, 0] >= 0).all()


def test_solvers_have_their_strong_order_on_geometric_brownian_motion() -> None:
    """dy = a y dt + b y dW: E |y_h(1) - y(1)| ~ h^(1/2) for Euler, h for Milstein. Slopes within 0.15, from
    4,000 shared Brownian paths.
    """
    a, b, finest = 0.5, 1.0, 512
    fine = torch.from_numpy(stream(0, "Brownian motion").standard_normal((4000, finest, 1))) / finest**0.5
    exact = torch.exp((a - b * b / 2) + b * fine.sum(dim=1))
    sizes = np.array([16, 32, 64, 128, 256])
    for method, order in (("euler", 0.5), ("milstein", 1.0)):
        errors = []
        for steps in sizes:
            h = 1 / float(steps)
            increments = fine.reshape(4000, steps, -1, 1).sum(dim=2) / h**0.5

            def equation(s: Tensor, y: Tensor, h: float = h) -> tuple[Tensor, Tensor]:
                return h * a * y, h**0.5 * b * y

            found = solve(
                equation,
                torch.ones(4000, 1, dtype=torch.float64),
                increments,
                method=method,
                ends=[0, int(steps)],
            )
            errors.append(float((found[-1].detach() - exact).abs().mean()))
        slope = np.polyfit(np.log(1 / sizes), np.log(errors), 1)[0]
        assert abs(slope - order) < 0.15


def test_the_gradient_of_the_adjoint_tends_to_that_of_the_solver() -> None:
    x = series(20)
    errors = []
    for dt in (0.05, 0.0125):
        model = steered(made(settings={"dt": dt}))
        given = model._series(TIMES, x)
        noise = torch.from_numpy(
            stream(0, "noise").standard_normal((20, 4, model._on_steps(given.times).noise_width))
        )
        gradients = []
        for adjoint in (False, True):
            steps = model._on_steps(given.times, adjoint=adjoint)
            terms = steps(model._packed(given), noise)
            loss = (terms.kl.sum(dim=1) - terms.log_likelihood.mean(dim=1)).mean()
            found = torch.autograd.grad(
                loss, [p for p in steps.parameters() if p.requires_grad], allow_unused=True
            )
            gradients.append(torch.cat([part.flatten() for part in found if part is not None]))
        errors.append(float((gradients[1] - gradients[0]).norm() / gradients[0].norm()))
    assert errors[0] < 0.2
    assert errors[1] < 0.7 * errors[0]


def test_times_without_observations_do_not_change_the_encoder() -> None:
    model, x = steered(made()), series(4)
    given = model._series(TIMES, x)
    padded, positions = given.with_times(np.full((4, 2), [0.2, 1.5]))
    before, after = (model.module.reader(*_parts(model, part)) for part in (given, padded))
    assert positions.tolist() == [[2, 6]] * 4
    for was, now in zip(before, after, strict=True):
        assert torch.equal(was, now[:, [0, 1, 3, 4, 5]])
    assert not after[2][:, 6].any()


def _parts(model: vae.LatentSDE, given: Series) -> tuple[Tensor, Tensor, Tensor]:
    packed = model._packed(given)
    return packed[..., :2], packed[..., 2:4] > 0.5, packed[..., -1]
