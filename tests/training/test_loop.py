"""The loop: what it minimises, when it stops, what it leaves behind, and that it goes on as if nothing had
happened.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sbi_flows.errors import BankMismatchError, NonFiniteLossError, SettingsError, TooFewSimulationsError
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, mean_loss, train
from sbi_flows.training.rows import TensorRows, split_rows
from sbi_flows.training.settings import TrainSettings


def squared_error(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    x, y = batch
    error: Tensor = (module(x) - y).square().sum(dim=1)
    return error


def problem(n: int = 2000) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * rng.standard_normal((n, 1))).astype(np.float32)
    with torch_scope(stream(0, "weights")):
        module = nn.Linear(3, 1)
    return module, (torch.from_numpy(x), torch.from_numpy(y))


def run(
    module: nn.Module, rows: tuple[Tensor, Tensor], checkpoint: Path | None = None, **options: float
) -> History:
    settings = TrainSettings(**{"epochs": 10, "batch_size": 64, "learning_rate": 0.05, **options})  # type: ignore[arg-type]
    return train(
        module, squared_error, TensorRows(rows, settings, seed=1), TrainOptions(checkpoint=checkpoint)
    )


def test_it_finds_the_minimum_and_reports_the_loss_of_the_weights_it_keeps() -> None:
    module, rows = problem()
    history = run(module, rows)
    assert history.stopped == "finished"
    assert len(history.valid_loss) == len(history.train_loss) == 10
    _, valid = split_rows(2000, TrainSettings(), 1)
    kept = mean_loss(module, squared_error, [part[torch.from_numpy(valid)] for part in rows])
    assert kept == pytest.approx(history.best_loss, rel=1e-6)
    assert kept == min(history.valid_loss)
    assert kept < 0.012


def test_training_and_validation_rows_are_a_partition_and_depend_on_the_seed_alone() -> None:
    train_rows, valid_rows = split_rows(1003, TrainSettings(), 5)
    assert sorted([*train_rows, *valid_rows]) == list(range(1003))
    assert len(valid_rows) == 100
    assert np.array_equal(valid_rows, split_rows(1003, TrainSettings(), 5)[1])
    assert not np.array_equal(valid_rows, split_rows(1003, TrainSettings(), 6)[1])


def test_the_same_seed_gives_the_same_bytes() -> None:
    weights = []
    for _ in range(2):
        module, rows = problem()
        run(module, rows)
        weights.append(module.state_dict()["weight"].numpy().tobytes())
    assert weights[0] == weights[1]


def test_a_run_killed_after_any_epoch_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbi_flows.training.loop._CHECKPOINT_SECONDS", -1.0)
    module, rows = problem()
    whole = run(module, rows)
    expected = {name: value.clone() for name, value in module.state_dict().items()}

    class Killed(Exception):
        pass

    for kill_in in (1, 4, 9):
        path = tmp_path / f"run{kill_in}"
        calls = 0

        def dying(module: nn.Module, batch: tuple[Tensor, ...], limit: int = kill_in * 30) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise Killed
            return squared_error(module, batch)

        module, rows = problem()
        settings = TrainSettings(epochs=10, batch_size=64, learning_rate=0.05)
        with pytest.raises(Killed):
            train(module, dying, TensorRows(rows, settings, seed=1), TrainOptions(checkpoint=path))
        module, _ = problem()
        resumed = run(module, rows, path)
        assert resumed == whole
        assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def test_a_finished_checkpoint_is_loaded_without_training(tmp_path: Path) -> None:
    module, rows = problem()
    whole = run(module, rows, tmp_path / "run")
    again, _ = problem()
    assert run(again, rows, tmp_path / "run") == whole
    assert torch.equal(again.state_dict()["weight"], module.state_dict()["weight"])


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    module, rows = problem()
    run(module, rows, tmp_path / "run")
    with pytest.raises(BankMismatchError, match="another run \\(other settings\\)"):
        run(module, rows, tmp_path / "run", learning_rate=0.01)


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_rows() -> None:
    module, (x, y) = problem()
    train_rows, _ = split_rows(2000, TrainSettings(), 1)
    x[train_rows[7]] = float("nan")
    with pytest.raises(NonFiniteLossError, match="epoch 0") as caught:
        run(module, (x, y))
    assert train_rows[7] in caught.value.rows
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_it_stops_when_nothing_improves_and_returns_the_best_weights() -> None:
    _, (x, _) = problem(200)
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((200, 1)).astype(np.float32))
    with torch_scope(stream(0, "weights")):
        wide = nn.Sequential(nn.Linear(3, 256), nn.ReLU(), nn.Linear(256, 1))
    history = run(wide, (x, noise), epochs=200, patience=5)
    assert history.stopped == "patience"
    assert len(history.valid_loss) == history.best_epoch + 6


def test_a_time_limit_ends_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1, 10**6))
    monkeypatch.setattr("sbi_flows.training.loop.time.monotonic", lambda: 0.01 * next(now))
    module, rows = problem()
    timed = TensorRows(rows, TrainSettings(epochs=1000, batch_size=64), seed=1)
    history = train(module, squared_error, timed, TrainOptions(limit_seconds=2.0))
    assert history.stopped == "time"
    assert 5 <= len(history.valid_loss) <= 9


def test_too_few_rows_are_refused() -> None:
    module, rows = problem(49)
    with pytest.raises(TooFewSimulationsError, match="49 usable simulations are too few"):
        run(module, rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 2.5),
        ("learning_rate", -1.0),
        ("validation_share", 1.0),
        ("patience", True),
        ("clip", 0.0),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name} must"):
        TrainSettings(**{name: value})  # type: ignore[arg-type]
