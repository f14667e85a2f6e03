"""What a report is told of the data: each array of an event, observed and predicted."""

from __future__ import annotations

from collections.abc import Mapping

from sbi_flows.arrays import F
from sbi_flows.nets.inputs import Inputs
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.data import Grid, Kind, Set
from sbi_flows.problem.events import Events, Table
from sbi_flows.problem.observation import as_observed
from sbi_flows.report.observed import DataArray

_NETWORKS: dict[str, Kind] = {"grid": Grid(), "set": Set()}


def data_shown(posterior: Posterior, y_obs: F, predicted: Mapping[str, F]) -> list[DataArray]:
    """One record for each array of an event.

    y_obs: one event as it travels, (*event,); predicted: method -> (n, *event). Of a set, members that
    were not observed are left out of the predicted ones too. What was not declared is a map where the network
    takes it for one.
    """
    return arrays_shown(posterior.events, posterior.inputs, y_obs, predicted)


def arrays_shown(events: Events, inputs: Inputs, y_obs: F, predicted: Mapping[str, F]) -> list[DataArray]:
    """The same of events that networks take as `inputs`."""
    networks = [part.network for part in inputs.layout.parts] if inputs.layout else []
    slices = events.slices
    found = []
    for i, table in enumerate(events.tables):

        def of(values: F, table: Table = table) -> F:
            part = values[..., slices[table.name]] if events.named else values
            return part.reshape(*values.shape[: values.ndim - y_obs.ndim], *table.shape)

        kind = table.kind or _NETWORKS.get(networks[i] if i < len(networks) else "")
        seen, rows = of(y_obs), {method: of(values) for method, values in predicted.items()}
        if kind is None:
            found.append(DataArray(seen, rows, table.name, missing=events.missing))
            continue
        if isinstance(kind, Set):
            rows = {method: as_observed(values, seen) for method, values in rows.items()}
        found.append(
            DataArray(
                observed=seen,
                predicted=rows,
                name=table.name,
                kind=f"set of {kind.of.kind}" if isinstance(kind, Set) else kind.kind,
                places=len(kind.axes(table.shape)),
                channels=kind.names,
                missing=events.missing,
            )
        )
    return found
