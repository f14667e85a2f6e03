"""Draws: labelled samples of theta with weights, origin and verdict. The only file that knows ArviZ."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.errors import SettingsError, ShapeError, StorageError, UnknownParameterError
from sbi_flows.files import write_bytes
from sbi_flows.problem.prior import Prior
from sbi_flows.verdict import Verdict

if TYPE_CHECKING:
    import pandas

_NOT_IN_NETCDF, _DIMENSIONS = frozenset("/\0"), ("chain", "draw")
_STACK = (
    "; {m} observations, each with parameters of its own; replicates that share parameters are one "
    "observation of sf.replicates(...)"
)
_RENAME = "Write .csv, or give the parameter another name in the prior."


@dataclass(frozen=True, eq=False)
class Draws:
    """Samples of theta for one observation, (n, d), or for a stack of m observations, (m, n, d).

    values: as computed.
    groups: the columns of each parameter, by its name.
    names: a label for each column.
    verdict, verdicts: whether to believe them; for a stack, the worst and one per observation.
    origin: the method that made them.
    weights: None, or (n,) with sum one.
    facts: further numbers about how they were made.
    labels: the names of the groups of a block, by the name of the parameter.

    Only `values` and `summary` know weights. Everything else that leaves this class is equally weighted:
    `to_numpy`, `draws[name]`, `to_arviz` and `save` resample weighted draws systematically to n.
    """

    values: Float[np.ndarray, "*m n d"]
    groups: Mapping[str, slice | int]
    names: tuple[str, ...]
    verdict: Verdict
    origin: str
    weights: Float[np.ndarray, " n"] | None = None
    verdicts: tuple[Verdict, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prior: Prior,
        values: Float[np.ndarray, "*m n d"],
        verdict: Verdict,
        origin: str,
        weights: Float[np.ndarray, " n"] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Draws:
        """Draws of the parameters of `prior`, named as it names them."""
        groups = {
            name: columns if not prior.marginals[name].scalar else int(columns.start)
            for name, columns in prior.slices.items()
        }
        return cls(
            values, groups, prior.names, verdict, origin, weights, (verdict,), facts or {}, prior.labels
        )

    def __len__(self) -> int:
        return int(self.values.shape[-2])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """The draws of a parameter or a label such as `w[0]`, (n,) or (m, n); of a block with a last axis."""
        values = self.to_numpy()
        if name in self.groups:
            return np.asarray(values[..., self.groups[name]])
        if name in self.names:
            return np.asarray(values[..., self.names.index(name)])
        raise UnknownParameterError(f"no parameter {name!r}; there are {', '.join(self.groups)}.")

    def __contains__(self, name: object) -> bool:
        return name in self.groups or name in self.names

    def __iter__(self) -> Iterator[str]:
        """The names of the parameters."""
        return iter(self.groups)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.values.shape[:-1]))
        text = f"{shape} of {', '.join(self.names)}; {self.origin}; verdict: {self.verdict.level}"
        return f"Draws({text}{_STACK.format(m=len(self.values)) if self.values.ndim == 3 else ''})"

    @property
    def ess(self) -> float:
        """Effective number of draws: n, or 1 / sum(weights^2) (Kish 1965); no more than facts["ess"], of
        the Markov chains or weighted draws that they were taken from.
        """
        own = float(len(self)) if self.weights is None else float(1 / np.square(self.weights).sum())
        return min(own, float(self.facts.get("ess", own)))

    def to_numpy(self) -> Float[np.ndarray, "*m n d"]:
        """Equally weighted draws, (n, d) or (m, n, d)."""
        if self.weights is None:
            return self.values
        positions = (np.arange(len(self)) + 0.5) / len(self)
        chosen = np.searchsorted(np.cumsum(self.weights), positions * (1 - 1e-12))
        return self.values[..., np.minimum(chosen, len(self) - 1), :]

    def summary(self) -> pandas.DataFrame:
        """Mean, sd, 5%, 50% and 95% quantiles and effective number of draws, one row per parameter (and per
        observation of a stack).
        """
        import pandas

        stacked = self.values.reshape(-1, len(self), len(self.names))
        weights = np.full(len(self), 1 / len(self)) if self.weights is None else self.weights
        tables = [_table(values, weights, self.names, self.ess) for values in stacked]
        if self.values.ndim == 2:
            return tables[0]
        return pandas.concat(dict(enumerate(tables)), names=["observation", "parameter"])

    def to_arviz(self) -> Any:
        """ArviZ's InferenceData (from ArviZ 1.0 a DataTree): the draws as one chain of the group posterior.

        A block theta has the dimension theta_dim_0, with coordinates 0, 1, ... or the labels of its groups.

        Raises `SettingsError` for a stack, and for a parameter called chain or draw.
        """
        if self.values.ndim != 2:
            raise SettingsError(
                f"ArviZ and NetCDF hold the draws of one observation, and these are of {len(self.values)}. "
                f"Write .csv, which has a column for the observation, or take one of them: in Python "
                f"draws.observation(i), on the command line a file with it alone."
            )
        if taken := [name for name in self.groups if name in _DIMENSIONS]:
            raise SettingsError(
                f"ArviZ and NetCDF take no parameter called {taken[0]!r}: a dimension is so named. {_RENAME}"
            )
        arviz = _arviz()
        posterior = {name: self[name][None] for name in self.groups}
        attrs = {"origin": self.origin, "verdict": str(self.verdict)}
        dims = {name: [f"{name}_dim_0"] for name in self.labels}
        axes: dict[str, Any] = {}
        if dims:
            coords = {f"{name}_dim_0": list(labels) for name, labels in self.labels.items()}
            axes = {"dims": dims, "coords": coords}
        if int(arviz.__version__.split(".")[0]) >= 1:
            return arviz.from_dict({"posterior": posterior}, attrs={"posterior": attrs}, **axes)
        return arviz.from_dict(posterior=posterior, attrs=attrs, **axes)

    def with_(self, /, **derived: Any) -> Draws:
        """The same draws with further parameters that are computed from them.

            draws.with_(young=lambda d: d["share"] * d["adult"])

        derived: by name, an array (n,) or (m, n), with one more axis for a block; or a function of the draws
            that returns it. The function gets a mapping of the names, earlier derived ones too, to such
            arrays, one entry for each row of `values`.

        Raises `SettingsError` for a name that exists, and `ShapeError`.
        """
        lead = self.values.shape[:-1]
        columns, groups, names = [self.values], dict(self.groups), list(self.names)
        mapping: dict[str, Any] = {name: self.values[..., where] for name, where in groups.items()}
        for name, given in derived.items():
            if name in groups or name in names:
                raise SettingsError(
                    f"there is already a parameter {name!r}; give what is derived another name."
                )
            value = _derived(name, given(dict(mapping)) if callable(given) else given, lead)
            mapping[name], width = value, sum(column.shape[-1] for column in columns)
            block = value.ndim > len(lead)
            size = value.shape[-1] if block else 1
            groups[name] = slice(width, width + size) if block else width
            names += [f"{name}[{i}]" for i in range(size)] if block else [name]
            columns.append(value if block else value[..., None])
        if len(set(names)) != len(names):
            raise SettingsError(f"the columns would be called {', '.join(names)}; give names that differ.")
        return replace(self, values=np.concatenate(columns, axis=-1), groups=groups, names=tuple(names))

    def observation(self, i: int) -> Draws:
        """The draws of observation `i` of a stack."""
        if not isinstance(i, int | np.integer) or isinstance(i, bool):
            raise ShapeError(f"observations have whole numbers, as draws.observation(0); got {i!r}.")
        if self.values.ndim != 3 or not -len(self.values) <= i < len(self.values):
            raise ShapeError(f"there is no observation {i} in draws of shape {self.values.shape}.")
        return replace(self, values=self.values[i], verdict=self.verdicts[i], verdicts=())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write NetCDF (`.nc`, through ArviZ) or `.csv` (one column per parameter, equally weighted).

        The `.csv` of a stack has a first column `observation`, i of `observation(i)`; NetCDF takes one
        observation only. Raises `SettingsError`, `StorageError`.
        """
        if not isinstance(path, str | os.PathLike):
            raise SettingsError(f"draws are written to a path that ends in .nc or .csv, got {path!r}.")
        path = Path(path)
        if path.suffix not in (".nc", ".csv"):
            raise SettingsError(f"draws are written as .nc or .csv, got {path.name!r}.")
        write_bytes(path, self._netcdf() if path.suffix == ".nc" else self._csv())

    def _netcdf(self) -> bytes:
        if refused := [name for name in self.groups if not name or set(name) & _NOT_IN_NETCDF]:
            raise SettingsError(
                f"NetCDF takes no parameter called {refused[0]!r}: names are not empty, without '/' and "
                f"NUL. {_RENAME}"
            )
        data = self.to_arviz()
        try:
            with tempfile.TemporaryDirectory() as folder:
                data.to_netcdf(str(Path(folder, "draws.nc")))
                return Path(folder, "draws.nc").read_bytes()
        except OSError as error:
            raise StorageError(
                f"the draws cannot be written as NetCDF ({error}). Free some space for temporary files."
            ) from error

    def _csv(self) -> bytes:
        text, names = io.StringIO(), self.names
        flat = self.to_numpy().reshape(-1, len(self.names))
        if self.values.ndim == 3:
            if "observation" in names:
                raise SettingsError(
                    "the .csv of a stack has a column 'observation', and a parameter has the same name: save "
                    "draws.observation(i)."
                )
            which = np.repeat(np.arange(len(self.values)), len(self))
            names, flat = ("observation", *names), np.column_stack([which, flat])
        text.write(_header(names))
        np.savetxt(text, flat, delimiter=",", fmt="%.17g")
        return text.getvalue().encode()


def _derived(name: str, given: Any, lead: tuple[int, ...]) -> NDArray[np.float64]:
    """A derived parameter as numbers, one row for each draw. Raises `ShapeError`."""
    try:
        value = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name} must be numbers, one for each draw ({error}).") from error
    wanted = ", ".join(map(str, lead))
    if value.shape[: len(lead)] != lead or value.ndim > len(lead) + 1 or 0 in value.shape[len(lead) :]:
        raise ShapeError(
            f"{name} must have shape ({wanted},) as the draws, or ({wanted}, k) for a block; got "
            f"{value.shape}."
        )
    return value


def _header(names: tuple[str, ...]) -> str:
    """The first line of a CSV; names with a comma, a quote or a line break are quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(names)  # the writer quotes what is in its terminator
    return line.getvalue().removesuffix("\r\n") + "\n"


def _arviz() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\\s*ArviZ is undergoing", category=FutureWarning)
        import arviz

    return arviz


@dataclass(frozen=True)
class ChainDiagnostics:
    """Of several Markov chains, the worst over the columns: rank-normalised split R-hat, and the effective
    sample sizes of bulk and tails (Vehtari et al. 2021, 1903.08008).
    """

    rhat: float
    bulk: float
    tail: float

    @property
    def ess(self) -> float:
        """The smaller of the two effective sample sizes."""
        return min(self.bulk, self.tail)


def diagnose_chains(values: Float[np.ndarray, "chains steps d"]) -> ChainDiagnostics:
    """What ArviZ says of them; a column that never moves has R-hat infinite and effective size 0."""
    arviz, found = _arviz(), []
    for column in np.moveaxis(values, 2, 0):
        if (np.ptp(column, axis=1) == 0).any():
            found.append((np.inf, 0.0, 0.0))
            continue
        bulk, tail = (float(arviz.ess(column, method=method)) for method in ("bulk", "tail"))
        found.append((float(arviz.rhat(column)), bulk, tail))
    table = np.nan_to_num(np.array(found), nan=np.inf, posinf=np.inf)
    return ChainDiagnostics(float(table[:, 0].max()), float(table[:, 1].min()), float(table[:, 2].min()))


def _table(
    values: NDArray[np.float64], weights: NDArray[np.float64], names: tuple[str, ...], ess: float
) -> pandas.DataFrame:
    import pandas

    mean = weights @ values
    with np.errstate(invalid="ignore"):
        variance = weights @ np.square(values - mean) / (1 - np.square(weights).sum())
    quantiles = {
        f"q{p:02d}": [weighted_quantile(column, weights, p / 100) for column in values.T] for p in (5, 50, 95)
    }
    columns = {"mean": mean, "sd": np.sqrt(variance), **quantiles, "ess": ess}
    return pandas.DataFrame(columns, index=pandas.Index(names, name="parameter"))


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], p: float) -> float:
    """The p-quantile of weighted values, by linear interpolation of the mid-point distribution function."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(np.interp(p, cumulative - 0.5 * weights[order], values[order]))
