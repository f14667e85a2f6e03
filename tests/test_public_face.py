"""What a newcomer sees: the names, what importing costs, and what the README claims."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sbi_flows as sf

ROOT = Path(__file__).parent.parent
PACKAGE = sorted(ROOT.glob("sbi_flows/**/*.py"))
HEAVY = (
    "matplotlib",
    "jinja2",
    "sklearn",
    "arviz",
    "click",
    "loky",
    "rich",
    "pandas",
    "nflows.flows",
    "nflows.distributions",
    "torchsde",
)


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_public_names_are_listed_sorted_and_there() -> None:
    assert sf.__all__ == sorted(sf.__all__)
    assert all(hasattr(sf, name) for name in sf.__all__)
    assert dir(sf) == sf.__all__


def test_the_lists_of_public_names_agree() -> None:
    """What mypy reads, what is imported at the first need, and `__all__`."""
    (seen_by_mypy,) = (
        node
        for node in ast.parse(Path(sf.__file__).read_text()).body
        if ast.unparse(node).startswith("if TYPE_CHECKING:")
    )
    imports = [node for node in ast.walk(seen_by_mypy) if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(homes) == sf.__all__
    assert homes == {**sf._HOME, "testing": "sbi_flows"}
    assert all(getattr(sf, name).__module__ == home for name, home in sf._HOME.items())


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="'sbi_flows'.*'simulat'") as caught:
        _ = sf.simulat
    assert (caught.value.name, caught.value.obj) == ("simulat", sf)
    with pytest.raises(ImportError, match="simulat"):
        from sbi_flows import simulat  # noqa: F401


def test_names_modules_and_help_come_at_the_first_need() -> None:
    code = """
import pickle, pydoc, threading
import sbi_flows as sf
from sbi_flows import flows, simulate
seen = []
threads = [threading.Thread(target=lambda: seen.append(sf.fit)) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert len(seen) == 8 and set(seen) == {sf.fit}
assert pickle.loads(pickle.dumps(sf.Prior)) is sf.Prior
assert sf.errors.PriorError and sf.testing.check_simulator
print("rejection_abc(simulator" in pydoc.plain(pydoc.render_doc(sf)), flows.__name__, simulate.__module__)
from sbi_flows import *
print(load_simulator is sf.load_simulator, "_HOME" in globals())
"""
    assert in_a_fresh_process(code).split() == [
        "True",
        "sbi_flows.flows",
        "sbi_flows.simulation.engine",
        "True",
        "False",
    ]


def test_every_public_name_is_in_the_contract_table_of_the_readme() -> None:
    table = (ROOT / "README.md").read_text().split("## The contract")[1].split("\n## ")[0]
    assert [name for name in sf.__all__ if f"`sf.{name}" not in table] == []


def test_every_error_of_the_tree_is_drawn_and_documented() -> None:
    from sbi_flows import errors

    drawn = errors.__doc__ or ""
    assert errors.__all__ == sorted(errors.__all__)
    for name in errors.__all__:
        assert name in drawn
        assert issubclass(getattr(errors, name), errors.SbiFlowsError | UserWarning)
        assert getattr(errors, name).__doc__


def test_importing_loads_nothing_heavy_and_changes_nothing() -> None:
    code = f"""
import logging, os, random, sys
import numpy as np, torch, scipy.stats
def state():
    return (
        str(np.random.get_state()), torch.get_rng_state().numpy().tobytes(), random.getstate(),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(),
        len(logging.getLogger().handlers), dict(os.environ), os.getcwd(),
    )
before, files = state(), set(os.listdir("."))
from sbi_flows import *
print([name for name in {HEAVY!r} if name in sys.modules], before == state(), set(os.listdir(".")) == files)
"""
    assert in_a_fresh_process(code) == "[] True True"


def test_simulating_loads_no_torch(tmp_path: Path) -> None:
    code = f"""
import pickle, sys, cloudpickle
import simulators.gaussian, simulators.ricker
import sbi_flows as sf
from scipy.stats import uniform

@sf.simulator(sf.Prior(rate=uniform(0, 5)))
def poisson(theta, rng):
    return rng.poisson(theta["rate"][:, None], (len(theta["rate"]), 4))

simulations = sf.simulate(poisson, 2000, seed=1, store={str(tmp_path / "bank")!r})
assert sf.read_bank({str(tmp_path / "bank")!r}).prior == pickle.loads(pickle.dumps(poisson.prior))
assert pickle.loads(cloudpickle.dumps(poisson)).prior == poisson.prior
assert sf.load_simulator("ricker") is simulators.ricker.ricker
sf.testing.check_simulator(poisson)
sf.rejection_abc(poisson, simulations.y[0], simulations=simulations, quantile=0.1, adjust="linear").to_numpy()
print([name for name in {("torch", "nflows", *HEAVY)!r} if name in sys.modules])
"""
    assert in_a_fresh_process(code) == "[]"


def test_a_torch_marginal_is_known_whoever_imported_torch() -> None:
    code = """
import json, sys
import sbi_flows as sf
def refusal(of):
    try:
        sf.Prior(x=of)
    except sf.errors.PriorError as error:
        return str(error)
assert "x" in refusal(3.0) and "torch" not in sys.modules
record = [{"name": "x", "source": "torch", "kind": "Normal", "params": {"loc": 0.0, "scale": 2.0}}]
stored = sf.Prior.from_json(record)
import torch
same = stored == sf.Prior(x=torch.distributions.Normal(0.0, 2.0))
print(same, stored.to_json() == record, "tensor([1., 1.])" in refusal(torch.ones(2)))
"""
    assert in_a_fresh_process(code) == "True True True"


def test_no_statement_asserts_on_input_and_nothing_in_a_file_can_run() -> None:
    """Pickle only carries simulators between this run's own processes: never through a file."""
    between_processes = {"child.py pickle.loads", "workers.py pickle.loads", "workers.py cloudpickle.dumps"}
    found = []
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                found.append(f"{path.name}:{node.lineno} assert")
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("eval", "exec", "torch.load", "yaml.load") or (
                    name.startswith(("pickle.", "cloudpickle.", "marshal."))
                    and f"{path.name} {name}" not in between_processes
                ):
                    found.append(f"{path.name}:{node.lineno} {name}")
    assert found == []


def test_every_module_opens_with_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(sf.__path__, "sbi_flows."):
        assert importlib.import_module(module.name).__doc__, module.name


def test_the_version_is_the_newest_entry_of_the_changelog() -> None:
    from importlib.metadata import version

    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert version("sbi_flows") in entries[:2]


@pytest.mark.parametrize(
    "block", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
)
def test_python_blocks_of_the_readme_are_valid(block: str) -> None:
    ast.parse(block)
