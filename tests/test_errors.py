"""The error tree: as drawn, catchable by one name, and with the exit code of whoever can put it right."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sbi_flows import errors

CLASSES = {name: getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
USERS_MISTAKES = set(CLASSES) - {"SbiFlowsError", "TrainingError", "NonFiniteLossError", "StorageError"}


def drawn_parents() -> dict[str, str]:
    """Child -> parent, as the module's docstring draws them."""
    parents, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"[ |`-]*(\w+Error)\b", line)
        if match:
            column = match.start(1)
            path = [*[step for step in path if step[0] < column], (column, match[1])]
            if len(path) > 1:
                parents[match[1]] = path[-2][1]
    return parents


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    real = {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items() if name != "SbiFlowsError"}
    assert drawn_parents() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_one_except_catches_everything(name: str) -> None:
    assert issubclass(CLASSES[name], errors.SbiFlowsError)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_exit_code_is_2_where_the_user_can_put_it_right_and_1_otherwise(name: str) -> None:
    assert CLASSES[name].exit_code == (2 if name in USERS_MISTAKES else 1)


def test_the_only_other_public_name_is_a_warning_for_users() -> None:
    assert set(errors.__all__) - set(CLASSES) == {"SimulationWarning"}
    assert issubclass(errors.SimulationWarning, UserWarning)


def test_bad_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="seed"):
        raise errors.SettingsError("seed must be positive")


def test_a_non_finite_loss_knows_the_rows_of_its_batch() -> None:
    error = errors.NonFiniteLossError("the loss became NaN", np.array([3, 1, 4]))
    assert error.rows.tolist() == [3, 1, 4]
    assert str(error) == "the loss became NaN"
