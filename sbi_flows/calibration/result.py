"""What `sf.check` returns: the outcome of every test, one verdict, and the page that shows them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.diagnostics.bands import ecdf_band, grid
from sbi_flows.diagnostics.calibration import LOG_LIKELIHOOD, LOG_Q, RANDOM_POINT, RankTest
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.diagnostics.recovery import Recovery
from sbi_flows.diagnostics.tests import FALSE_ALARM, Outcome
from sbi_flows.files import write_bytes
from sbi_flows.notes import Note
from sbi_flows.posterior.data_shown import data_shown
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.verdict import Level, Verdict

if TYPE_CHECKING:
    import pandas

    from sbi_flows.report.check_figures import BandedCurve

_BAND = 0.99
_MOST_VALUES = 12
_NUMBERS = ("shift_sd", "dispersion", "coverage_50", "coverage_90", "contraction", "z_sd", "correlation")
_REGIONS = {LOG_Q: "highest-density regions", RANDOM_POINT: "balls (TARP)"}


@dataclass(frozen=True, eq=False)
class Check:
    """The outcome of `sf.check`.

    tests: ranks of each parameter, of log q, of the log-likelihood if there is one, and of the distance to
        random points.
    outcomes: the result of each test.
    recovery: how well each parameter is recovered.
    gain: the mean of log q(theta | y) - log p(theta) over the n pairs, in nats; gain_error: its standard
        error.
    n: the number of pairs; failed: simulations that failed and are not among them.
    y_obs: the observation, if one was tested.
    left_out: what could not be tested, and why.
    predictive_check: y_obs compared with data predicted at draws from its posterior.
    predicted: these data, (m, *event).
    """

    posterior: Posterior
    tests: tuple[RankTest, ...]
    outcomes: tuple[Outcome, ...]
    recovery: tuple[Recovery, ...]
    gain: float
    gain_error: float
    verdict: Verdict
    n: int
    seed: int = 0
    failed: int = 0
    y_obs: F | None = None
    left_out: tuple[Note, ...] = ()
    predictive_check: PredictiveCheck | None = None
    predicted: F | None = None

    @property
    def ok(self) -> bool:
        """Whether the verdict is "trust"."""
        return self.verdict.ok

    @property
    def level(self) -> Level:
        """The verdict's level: "trust", "caution" or "do not trust"."""
        return self.verdict.level

    @property
    def text(self) -> str:
        """The verdict in words."""
        return self.verdict.text

    @property
    def table(self) -> pandas.DataFrame:
        """One row per test, for its worst quantity: statistic, limit, null distribution, verdict."""
        import pandas

        columns = ("test", "quantity", "statistic", "limit", "null", "level", "sentence")
        rows = [{name: getattr(found, name) for name in columns} for found in self.outcomes]
        return pandas.DataFrame(rows).rename(columns={"level": "verdict"})

    @property
    def quantities(self) -> pandas.DataFrame:
        """One row per quantity: z statistics and ECDF p-value, bias in sd, dispersion, coverage, recovery."""
        import pandas

        recovered = {found.name: found for found in self.recovery}
        rows = []
        for test in self.tests:
            statistics = {name: getattr(test, name) for name in ("quantity", "mean_z", "spread_z", "ecdf_p")}
            effects = {"shift_sd": test.shift, "dispersion": test.dispersion}
            coverage = {"coverage_50": test.coverage(0.5), "coverage_90": test.coverage(0.9)}
            found = recovered.get(test.quantity)
            learnt = {name: getattr(found, name, np.nan) for name in ("contraction", "z_sd", "correlation")}
            rows.append({**statistics, **effects, **coverage, **learnt})
        return pandas.DataFrame(rows)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the check as one self-contained HTML file. Raises `StorageError`."""
        from sbi_flows.report.page import format_statistic, render, stamp

        facts = self.posterior.facts
        html = render(
            "check",
            heading=f"Calibration check: {facts['simulator']}",
            lead=self._lead(),
            verdict=stamp(self.verdict),
            tests=self.outcomes,
            quantities=[
                [str(row["quantity"]), *(format_statistic(row[key]) for key in _NUMBERS)]
                for row in self.quantities.to_dict("records")
            ],
            once=f"{round(1 / FALSE_ALARM):,}",
            **self._figures(),
            predictive_p=format_statistic(self.predictive_check and self.predictive_check.p),
            facts={
                "posterior": str(self.posterior),
                "seed of the fit": str(facts["seed"]),
                "seed of this check": str(self.seed),
                "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
            },
        )
        write_bytes(path, html.encode())

    def _lead(self) -> str:
        lead = (
            f"This check simulated {self.n:,} data sets from the prior and compared the true parameters of "
            "each with draws from its posterior. "
        )
        if self.failed:
            lead += f"Another {self.failed:,} simulations failed and are left out. "
        if self.y_obs is not None:
            values = self.y_obs.reshape(-1)
            more = f", ... ({values.size} values)" if values.size > _MOST_VALUES else ""
            shown = ", ".join(f"{value:.4g}" for value in values[:_MOST_VALUES])
            lead += f"It also tested the posterior at the observation {shown}{more}. "
        return (
            f"{lead}At the true parameters, the posterior's log density exceeds the prior's by "
            f"{self.gain:.2f} ± {self.gain_error:.2f} nats on average."
        )

    def _figures(self) -> dict[str, str | None]:
        from sbi_flows.report import check_figures as draw
        from sbi_flows.report.data_figures import data_figures
        from sbi_flows.report.observed import caption_of
        from sbi_flows.report.svg import colours_of

        def covered(test: RankTest) -> F:
            return np.array([test.coverage(level) - level for level in draw.LEVELS])

        bands = {m: ecdf_band(m, _BAND) for m in {len(test.ranks) for test in self.tests}}
        curves = [_curve(test, bands[len(test.ranks)]) for test in self.tests]
        others = (LOG_LIKELIHOOD, *_REGIONS)
        intervals = {test.quantity: covered(test) for test in self.tests if test.quantity not in others}
        regions = {_REGIONS[one.quantity]: covered(one) for one in self.tests if one.quantity in _REGIONS}
        found = {f"{one.name}: R = {one.correlation:.2f}": (one.truth, one.means) for one in self.recovery}
        predicted, more, statistics, checked = None, "", None, self.predictive_check
        if self.y_obs is not None and self.predicted is not None:
            data = {"posterior predictive": self.predicted}
            shown = data_shown(self.posterior, self.y_obs, data)
            predicted, more = data_figures(shown, colours_of(data)), f" {caption_of(shown)}".rstrip()
        if checked is not None:
            columns = (checked.observed, checked.low, checked.high, checked.p_values)
            statistics = draw.statistics_figure(checked.names, *columns)
        return {
            "ecdf": draw.ecdf_figure(curves),
            "coverage": draw.coverage_figure(curves[0], intervals, regions),
            "recovery": draw.recovery_figure(found),
            "predicted": predicted,
            "more": more,
            "statistics": statistics,
        }


def _curve(test: RankTest, band: tuple[F, F]) -> BandedCurve:
    """The distribution function of the ranks less the uniform one, at the points of the band."""
    from sbi_flows.report.check_figures import BandedCurve

    z = grid(len(test.ranks))
    below = np.searchsorted(np.sort(test.ranks), z, side="right") / len(test.ranks)
    apart = test.quantity == LOG_LIKELIHOOD
    return BandedCurve(test.quantity, z, below - z, band[0] - z, band[1] - z, apart)
