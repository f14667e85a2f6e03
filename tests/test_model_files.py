"""How any model is saved and loaded: what was written comes back, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sbi_flows.errors import CorruptFileError, FormatVersionError, PriorError
from sbi_flows.files import Arrays, Manifest, ModelFormat, RefusedError, read_file, under, write_file

LINE = ModelFormat("line", loader="load_line", newest=3, oldest=2, advice="Fit it again.")
X = np.array([0.0, 1.0, 2.0])


class Line:
    def __init__(self, slope: float, offset: float) -> None:
        self.slope, self.offset = slope, offset

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.slope * x + self.offset


def save(path: Path, form: ModelFormat = LINE, shift: float = 0.0) -> None:
    """The line 2 x + 1, with the check values of one that is higher by `shift`."""
    leaves = {"line": {"slope": torch.tensor(2.0, dtype=torch.float64)}}
    form.save(path, {"offset": 1.0}, leaves, {"x": X, "y": 2 * X + 1 + shift})


def rebuild(record: Manifest, arrays: Arrays) -> Line:
    return Line(float(under("line", arrays)["slope"]), record["offset"])


def check(line: Line, checks: Arrays) -> Arrays:
    return {"y": line(checks["x"])}


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "a")
    line = LINE.load(tmp_path / "a", rebuild, check)
    assert (line.slope, line.offset) == (2.0, 1.0)
    arrays, record = read_file(tmp_path / "a", "line", newest=3)
    assert sorted(arrays) == ["canary/x", "canary/y", "line/slope"]
    assert record == {"kind": "line", "loader": "load_line", "format_version": 3, "offset": 1.0}


def test_a_group_has_its_own_arrays_by_the_rest_of_their_names() -> None:
    arrays = {"net/a/b": np.zeros(1), "network/c": np.ones(1)}
    found = under("net", arrays)
    assert list(found) == ["a/b"]
    found["a/b"][0] = 5
    assert arrays["net/a/b"] == [0]


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (1e-7, True), (1e-4, False), (np.nan, False)])
def test_check_values_must_agree_within_the_tolerance(shift: float, same: bool, tmp_path: Path) -> None:
    save(tmp_path / "a", shift=shift)
    if same:
        LINE.load(tmp_path / "a", rebuild, check)
        return
    with pytest.raises(CorruptFileError, match="line.*y "):
        LINE.load(tmp_path / "a", rebuild, check)


def test_the_tolerance_is_that_of_the_format(tmp_path: Path) -> None:
    rough = ModelFormat("line", loader="load_line", tolerance=1e-2)
    save(tmp_path / "a", rough, shift=1e-3)
    assert rough.load(tmp_path / "a", rebuild, check).slope == 2.0


def test_another_kind_names_its_own_loader(tmp_path: Path) -> None:
    save(tmp_path / "a", ModelFormat("plane", loader="load_plane"))
    with pytest.raises(CorruptFileError, match="'plane'.*'line'.*load_plane"):
        LINE.load(tmp_path / "a", rebuild, check)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a", ModelFormat("line", loader="load_line", newest=4))
    with pytest.raises(FormatVersionError, match=r"version 4.* 3"):
        LINE.load(tmp_path / "a", rebuild, check)


@pytest.mark.parametrize("version", [1, 0])
def test_an_older_format_is_refused_with_advice(version: int, tmp_path: Path) -> None:
    save(tmp_path / "a", ModelFormat("line", loader="load_line", newest=version))
    with pytest.raises(FormatVersionError, match=f"version {version}.*2 to 3.*Fit it again"):
        LINE.load(tmp_path / "a", rebuild, check)


def test_contents_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    stamp = {"kind": "line", "loader": "load_line", "format_version": 3}
    wholes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"offset": 1.0}),
        ({"line/slope": np.zeros(())}, {}),
        ({"line/slope": np.zeros(2)}, {"offset": 1.0}),
        ({"line/slope": np.zeros(()), "canary/x": X}, {"offset": 1.0}),
        ({"line/slope": np.zeros(()), "canary/x": X, "canary/y": X}, {"offset": "one"}),
    ]
    for arrays, record in wholes:
        write_file(tmp_path / "a", arrays, {**stamp, **record})
        with pytest.raises(CorruptFileError, match="do not fit"):
            LINE.load(tmp_path / "a", rebuild, check)


def test_an_error_that_is_not_the_files_fault_is_raised_as_it_is(tmp_path: Path) -> None:
    """For example where the prior that is passed differs from that of the file."""
    save(tmp_path / "a")

    def refuse(record: Manifest, arrays: Arrays) -> Line:
        raise RefusedError(PriorError("another prior"))

    with pytest.raises(PriorError, match="another prior"):
        LINE.load(tmp_path / "a", refuse, check)
