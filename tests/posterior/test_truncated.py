"""The truncated prior: its draws are exact, it cuts what it says, and regions lie inside one another."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import gamma, ks_2samp, kstest, norm, uniform

import sbi_flows as sf
from sbi_flows.arrays import F
from sbi_flows.posterior.truncated import Local, Proposal, Truncated, draws_inside, log_ratio

SQUARE = sf.Prior(a=uniform(-3, 6), b=uniform(-3, 6))
SHARE, FALSE_ALARM = 1e-4, 1e-5


class Disc:
    """q(theta | y) = N(centre, sd^2 I), of any prior that holds nearly all of it."""

    def __init__(self, prior: sf.Prior, centre: list[float], sd: float) -> None:
        self.prior, self.centre, self.sd = prior, np.array(centre), sd

    def draw(self, n: int, seed: int) -> F:
        rng = np.random.default_rng(seed)
        theta = self.centre + self.sd * rng.standard_normal((n, len(self.centre)))
        return np.asarray(theta[self.prior.inside(theta)])

    def log_prob(self, theta: F) -> F:
        return np.asarray(norm.logpdf(theta, self.centre, self.sd).sum(axis=1))


def local(prior: sf.Prior, centre: list[float], sd: float) -> Local:
    return cast(Local, Disc(prior, centre, sd))


def cut(truncated: Truncated, q: Local, share: float = SHARE) -> Truncated:
    found = truncated.cut(q, share, seed=1)
    assert found is not None
    return found


@pytest.mark.parametrize(("sd", "way"), [(0.3, "prior"), (0.02, "ellipsoid")])
def test_draws_are_uniform_over_a_disc_of_a_uniform_prior(sd: float, way: str) -> None:
    """The square of the radius, and the angle, are uniform; the share of the prior is that of the area."""
    q = local(SQUARE, [0.5, -1.0], sd)
    truncated = cut(Truncated(SQUARE), q)
    squared_radius = -2 * sd**2 * (truncated.regions[0].floor - np.log(36) + np.log(2 * np.pi * sd**2))
    proposal = Proposal(truncated, seed=2)
    theta = proposal.take(4_000) - [0.5, -1.0]
    assert proposal.way == way
    assert kstest(np.square(theta).sum(axis=1) / squared_radius, "uniform").pvalue > FALSE_ALARM
    angle = np.arctan2(theta[:, 1], theta[:, 0]) / (2 * np.pi) + 0.5
    assert kstest(angle, "uniform").pvalue > FALSE_ALARM
    assert proposal.share == pytest.approx(np.pi * squared_radius / 36, rel=0.1)


def test_both_ways_draw_from_the_same_distribution_under_a_prior_of_many_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Coordinate by coordinate; and they agree on the share of the prior."""
    prior = sf.Prior(a=norm(0, 1), b=gamma(2), c=lambda p: uniform(p["a"], 4), d=uniform(-3, 6))
    truncated = cut(Truncated(prior), local(prior, [0.2, 1.5, 2.0, -2.0], 0.3))
    plain = Proposal(truncated, seed=3)
    monkeypatch.setattr("sbi_flows.posterior.truncated._LEAST_SHARE", 1.0)
    other = Proposal(truncated, seed=4)
    assert (plain.way, other.way) == ("prior", "ellipsoid")
    for one, two in zip(plain.take(3_000).T, other.take(3_000).T, strict=True):
        assert ks_2samp(one, two).pvalue > FALSE_ALARM
    assert plain.share == pytest.approx(other.share, rel=0.1)


def test_the_first_draws_are_the_same_however_many_are_taken_at_once() -> None:
    truncated = cut(Truncated(SQUARE), local(SQUARE, [0.5, -1.0], 0.1))
    together, one = Proposal(truncated, seed=2).take(700), Proposal(truncated, seed=2)
    assert np.array_equal(np.concatenate([one.take(300), one.take(1), one.take(399)]), together)
    assert not np.array_equal(Proposal(truncated, seed=3).take(700), together)


def test_the_region_cuts_what_it_says_and_no_more() -> None:
    """20,000 fresh draws of q: two are expected outside, and more than 30 have a chance below 1e-4 where the
    floor is the second smallest of 20,000.
    """
    q = local(SQUARE, [0.5, -1.0], 0.3)
    truncated = cut(Truncated(SQUARE), q)
    assert truncated.lost == pytest.approx(SHARE, abs=1e-4)
    assert (~truncated.inside(q.draw(20_000, 7))).sum() <= 30
    wide = cut(Truncated(SQUARE), q, share=0.1)
    assert (~wide.inside(q.draw(20_000, 7))).mean() == pytest.approx(0.1, abs=0.015)


def test_a_later_region_lies_inside_the_earlier_ones_and_says_what_it_lost() -> None:
    first = cut(Truncated(SQUARE), local(SQUARE, [0.0, 0.0], 0.1))
    edge = local(SQUARE, [0.4, 0.0], 0.1)
    second = cut(first, edge)
    theta = Proposal(second, seed=1).take(2_000)
    assert first.inside(theta).all()
    outside = (~first.inside(edge.draw(20_000, 9))).mean()
    assert second.lost == pytest.approx(outside, abs=0.02)
    kept, leak = draws_inside(edge, second, 3_000, seed=5)
    assert len(kept) == 3_000
    assert second.inside(kept).all()
    assert leak == pytest.approx(second.lost, abs=0.04)


def test_where_nothing_is_left_there_is_no_region() -> None:
    first = cut(Truncated(SQUARE), local(SQUARE, [0.0, 0.0], 0.1))
    assert first.cut(local(SQUARE, [2.0, 2.0], 0.1), SHARE, seed=1) is None
    never = Proposal(first, seed=1, most=0)
    assert not never.ready(10)
    assert len(never.take(10)) == 0


def test_the_region_has_less_of_the_prior_than_one_of_highest_density() -> None:
    """Of the same mass under q, for a prior that is not flat."""
    prior = sf.Prior(a=norm(0, 1), b=norm(0, 1))
    q, rng = local(prior, [1.5, 0.0], 0.5), np.random.default_rng(1)
    theta, own = prior.sample(400_000, rng), q.draw(100_000, 3)
    masses = []
    for score in (lambda t: log_ratio(q, t), q.log_prob):
        rule: Any = score
        masses.append((rule(theta) > np.quantile(rule(own), 0.05)).mean())
    assert masses[0] < masses[1]
