"""Draws with labelled groups and with parameters that are computed from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbi_flows.errors import SettingsError, ShapeError
from tests.test_draws import make_draws


def test_a_labelled_block_has_its_labels_as_coordinates(tmp_path: Path) -> None:
    labels = {"w": tuple("xyz"[: make_draws()["w"].shape[-1]])}
    draws = dataclasses.replace(make_draws(), labels=labels)
    data = draws.to_arviz()["posterior"]["w"]
    assert data.dims == ("chain", "draw", "w_dim_0")
    assert data.coords["w_dim_0"].values.tolist() == list(labels["w"])
    np.testing.assert_array_equal(data.sel(w_dim_0="y").values[0], draws["w"][:, 1])
    draws.save(tmp_path / "draws.nc")
    import arviz

    back = arviz.from_netcdf(tmp_path / "draws.nc")
    assert back["posterior"]["w"].coords["w_dim_0"].values.tolist() == list(labels["w"])
    back.close()


@pytest.mark.parametrize("stack", [None, 3])
def test_derived_parameters_join_the_draws(stack: int | None) -> None:
    draws = make_draws(20, stack=stack) if stack else make_draws(20)
    more = draws.with_(
        double=lambda d: 2 * d["rate"],
        pair=lambda d: np.stack([d["rate"], d["double"]], axis=-1),
        fixed=np.zeros(draws.values.shape[:-1]),
    )
    assert more.names == (*draws.names, "double", "pair[0]", "pair[1]", "fixed")
    np.testing.assert_array_equal(more["double"], 2 * draws["rate"])
    np.testing.assert_array_equal(more["pair"][..., 1], more["double"])
    np.testing.assert_array_equal(more["rate"], draws["rate"])
    assert more.values[..., : len(draws.names)].tobytes() == draws.values.tobytes()
    assert (more.verdict, more.origin) == (draws.verdict, draws.origin)
    assert "double" in more.summary().index.get_level_values("parameter")


def test_derived_parameters_of_weighted_draws_have_their_weights() -> None:
    draws = make_draws(weighted=True).with_(double=lambda d: 2 * d["rate"])
    np.testing.assert_array_equal(draws["double"], 2 * draws["rate"])
    np.testing.assert_allclose(*(draws.summary()["mean"][["double", "rate"]] / [2, 1]))


@pytest.mark.parametrize(
    ("derived", "error", "words"),
    [
        ({"rate": lambda d: d["rate"]}, SettingsError, "already a parameter 'rate'"),
        ({"w[0]": lambda d: d["rate"]}, SettingsError, "already a parameter"),
        ({"x": lambda d: d["rate"][:3]}, ShapeError, r"x must have shape \(20,\) as the draws.*\(3,\)"),
        ({"x": 1.0}, ShapeError, "x must have shape"),
        ({"x": lambda d: "words"}, ShapeError, "x must be numbers"),
        ({"x": lambda d: d["w"][..., None]}, ShapeError, "x must have shape"),
    ],
)
def test_what_cannot_be_derived_is_refused(derived: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_draws(20).with_(**derived)


@pytest.mark.parametrize("i", [1.0, "0", None, True])
def test_an_observation_has_a_whole_number(i: Any) -> None:
    with pytest.raises(ShapeError, match=r"draws\.observation\(0\); got"):
        make_draws(20, stack=2).observation(i)
