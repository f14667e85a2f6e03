"""Pairs made elsewhere, and tables as R and spreadsheets write them, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

import sbi_flows as sf
from sbi_flows.cli import main
from sbi_flows.cli.inputs import Reading, load_pairs, load_prior
from sbi_flows.errors import PluginError
from tests.test_cli import MODEL, one_line, refusal, run

OTHERS = """
import scipy.stats
from torch import ones
from torch.distributions import Dirichlet
import sbi_flows as sf

blocks = sf.Prior(w=Dirichlet(ones(2)), b=scipy.stats.norm(0, 1))
number = 3
"""
N = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs as .npy, and as R writes them; a prior, and the simulator that made them."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "model.py").write_text(MODEL)
    (folder / "prior.py").write_text(OTHERS)
    sims = sf.simulate(sf.load_simulator(f"{folder}/model.py:counts"), N, seed=1)
    np.save(folder / "theta.npy", sims.theta)
    np.save(folder / "y.npy", sims.y)
    rows = [f'"{i + 1}",{size!r},{rate!r}' for i, (rate, size) in enumerate(sims.theta.tolist())]
    (folder / "theta.csv").write_text("\n".join(['"","size","rate"', *rows, ""]))
    rows = [f'"{i + 1}",{",".join(map(str, row))}' for i, row in enumerate(sims.y.tolist())]
    (folder / "y.csv").write_text("\n".join(['"",' + ",".join(f'"V{k}"' for k in range(1, 7)), *rows, ""]))
    (folder / "observed.csv").write_text("9\n7\n11\n8\n10\n6\n")
    return folder


def fit(folder: Path, theta: str, y: str, output: str, *more: object) -> dict[str, object]:
    files = ("--theta", folder / theta, "--data", folder / y, "-o", folder / output)
    done = run("fit", *files, "--members", 1, "--size", "small", *more, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_npy_and_csv_of_r_give_the_same_bytes_with_the_prior_of_a_file(folder: Path) -> None:
    prior = ("--prior", f"{folder}/model.py:prior")
    found = fit(folder, "theta.npy", "y.npy", "one.safetensors", *prior)
    assert found["simulations"] == N
    assert found["simulator"] == "given pairs"
    assert "some_pairs" not in found
    fit(folder, "theta.csv", "y.csv", "two.safetensors", *prior)
    assert (folder / "one.safetensors").read_bytes() == (folder / "two.safetensors").read_bytes()
    done = run("infer", folder / "one.safetensors", folder / "observed.csv", "-n", 50)
    assert done.exit_code == 0, done.output


def test_the_prior_may_be_that_of_the_simulator(folder: Path) -> None:
    files = ("--theta", folder / "theta.csv", "--data", folder / "y.npy", "-o", folder / "named.safetensors")
    model = f"{folder}/model.py:counts"
    done = run("fit", model, *files, "--members", 1, "--size", "small")
    assert done.exit_code == 0, done.output
    assert "row names and left out" in one_line(done.output)
    assert "'counts'" in one_line(done.output)


@pytest.fixture(scope="module")
def posterior(folder: Path) -> Path:
    fit(folder, "theta.npy", "y.npy", "given.safetensors", "--prior", f"{folder}/model.py:prior")
    return folder / "given.safetensors"


def test_check_and_compare_on_further_pairs(folder: Path, posterior: Path) -> None:
    more = sf.simulate(sf.load_simulator(f"{folder}/model.py:counts"), 250, seed=2)
    np.save(folder / "more_theta.npy", more.theta)
    np.save(folder / "more_y.npy", more.y)
    pairs = ("--theta", folder / "more_theta.npy", "--data", folder / "more_y.npy")
    done = run("check", posterior, *pairs, "--observed", folder / "observed.csv", "--json")
    assert done.exit_code in (0, 1), done.output
    assert json.loads(done.stdout)["n"] == 250
    done = run("compare", posterior, folder / "observed.csv", *pairs, "-o", folder / "r.html")
    assert done.exit_code == 0, done.output
    assert "rejection ABC" in done.output
    trained = ("--theta", folder / "theta.npy", "--data", folder / "y.npy")
    assert "trained on these pairs" in refusal("check", posterior, *trained)
    assert "--theta and --data" in refusal("check", posterior)
    assert "belong together" in refusal("check", posterior, *pairs[:2])
    assert "--theta and --data" in refusal(
        "compare", posterior, folder / "observed.csv", "-o", folder / "r.html"
    )
    bank = ("--simulations", folder / "nobank", "-o", folder / "r.html")
    assert "not both" in refusal("compare", posterior, folder / "observed.csv", *pairs, *bank)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--theta {}/theta.npy", "--theta and --data belong together"),
        ("--theta {}/theta.npy --data {}/y.npy", "--prior path/to/file.py:prior"),
        ("--theta {}/theta.npy --data {}/y.npy -n 100 --prior {}/model.py:prior", "not several"),
        ("", "fit needs a SIMULATOR, a bank (--simulations), or pairs"),
        ("-n 100", "fit needs a SIMULATOR"),
        ("{}/model.py:counts --prior {}/model.py:prior", "is for pairs from --theta and --data"),
        ("{}/model.py:counts --decimal ,", "are for pairs from --theta and --data"),
        ("--theta {}/none.npy --data {}/y.npy --prior {}/model.py:prior", "none.npy: there is no such file"),
        ("--theta {}/theta.csv --data {}/y.npy --prior {}/prior.py:blocks", "w[0], w[1], b, got size, rate"),
        ("--theta {}/theta.npy --data {}/observed.csv --prior {}/model.py:prior", "300 rows and y has 6"),
        ("--theta {}/y.npy --data {}/y.npy --prior {}/model.py:prior", "one column for each of rate, size"),
        ("--theta {}/theta.npy --data {}/y.npy --prior {}/prior.py:number", "'number' is a int, not a prior"),
        ("--theta {}/theta.npy --data {}/y.npy --prior {}/prior.py:", "attribute after the colon"),
    ],
)
def test_mistakes_are_named(folder: Path, options: str, words: str) -> None:
    text = refusal("fit", *options.replace("{}", str(folder)).split(), "-o", folder / "x")
    assert words in text
    assert not (folder / "x").exists()


def test_the_output_is_never_an_input(folder: Path) -> None:
    for name in ("theta.npy", "y.npy", "model.py"):
        files = ("--theta", folder / "theta.npy", "--data", folder / "y.npy")
        text = refusal("fit", *files, "--prior", f"{folder}/model.py:prior", "-o", folder / name)
        assert "would be lost" in text


def test_blocks_are_known_by_their_names_in_python_and_in_r(folder: Path) -> None:
    prior = load_prior(f"{folder}/prior.py:blocks")
    theta = prior.sample(200, np.random.default_rng(0))
    np.save(folder / "events.npy", theta)
    for names in (["b", "w[0]", "w[1]"], ["b", "w.0.", "w.1."]):
        pandas.DataFrame(theta[:, [2, 0, 1]], columns=names).to_csv(folder / "blocks.csv", index=False)
        found = load_pairs(prior, folder / "blocks.csv", folder / "events.npy", Reading())
        np.testing.assert_array_equal(found.theta, theta)


def test_a_prior_is_found_as_a_simulator_is(folder: Path) -> None:
    assert load_prior(f"{folder}/model.py:counts") == load_prior(f"{folder}/model.py:prior")
    assert load_prior("ricker").names == sf.load_simulator("ricker").prior.names
    with pytest.raises(PluginError, match="is nothing, not a prior; priors there: blocks"):
        load_prior(f"{folder}/prior.py:absent")


@pytest.mark.parametrize(
    ("text", "words", "options"),
    [
        ("year;n\n1960;9\n1961;7\n1962;11\n1963;8\n1964;10\n1965;6\n", "--index year", ("--index", "year")),
        ("n\n9,0\n7\n11\n8\n10\n6\n", "line 2", ("--decimal", ",")),
        ('"9,0"\n7\n11\n8\n10\n6\n', "--decimal ,", ("--decimal", ",")),
        ("site,n\nA,9\nB,7\nC,11\nD,8\nE,10\nF,6\n", "--index NAME", ("--index", "site")),
        ("n\n9\n7\n\n8\n10\n6\n", "NaN", ()),
    ],
)
def test_observed_data_are_refused_with_the_option_that_reads_them(
    folder: Path, posterior: Path, text: str, words: str, options: tuple[str, ...]
) -> None:
    observed = folder / "table.csv"
    observed.write_text(text)
    assert words in refusal("infer", posterior, observed)
    if options:
        done = run("infer", posterior, observed, *options, "-n", 50, "--json")
        assert done.exit_code == 0, done.output
        plain = run("infer", posterior, folder / "observed.csv", "-n", 50, "--json")
        assert json.loads(done.stdout)["summary"] == json.loads(plain.stdout)["summary"]


def test_every_verb_that_reads_observed_data_takes_both_options() -> None:
    for verb in ("infer", "compare", "check", "fit"):
        shown = one_line(run(verb, "--help").output)
        assert "--decimal" in shown
        assert "--index" in shown
    assert "[SIMULATOR]" in run("fit", "--help").output
    assert "fit" in main.commands
