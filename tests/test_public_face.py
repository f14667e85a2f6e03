"""What a stranger sees: the names, what importing costs, how long files are, and what the README claims."""

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
SOURCES = sorted([*ROOT.glob("sbi_flows/**/*.py"), *ROOT.glob("simulators/*.py"), *ROOT.glob("examples/*.py"), *ROOT.glob("tests/**/*.py")])
PACKAGE = [path for path in SOURCES if path.is_relative_to(ROOT / "sbi_flows")]
HEAVY = ("matplotlib", "jinja2", "sklearn", "arviz", "click", "loky", "rich", "pandas", "nflows.flows", "nflows.distributions")


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_the_public_names_are_listed_sorted_and_there() -> None:
    assert sf.__all__ == sorted(sf.__all__)
    assert all(hasattr(sf, name) for name in sf.__all__)
    public = {name for name in vars(sf) if not name.startswith("_")}
    modules = {module.name for module in pkgutil.iter_modules(sf.__path__)}
    assert public - modules - {"annotations"} == set(sf.__all__) - modules


def test_every_public_name_is_in_the_contract_table_of_the_readme() -> None:
    table = (ROOT / "README.md").read_text().split("## The contract")[1].split("\n## ")[0]
    assert [name for name in sf.__all__ if f"`sf.{name}" not in table] == []


def test_every_error_of_the_tree_is_drawn_and_documented() -> None:
    from sbi_flows import errors

    drawn = errors.__doc__ or ""
    assert errors.__all__ == sorted(errors.__all__)
    for name in errors.__all__:
        assert name in drawn
        assert issubclass(getattr(errors, name), errors.SbiFlowsError)
        assert getattr(errors, name).__doc__


def test_importing_loads_nothing_heavy_and_changes_nothing() -> None:
    code = f"""
import logging, os, random, sys
import numpy as np, torch, scipy.stats
def state():
    return (str(np.random.get_state()), torch.get_rng_state().numpy().tobytes(), random.getstate(), torch.get_num_threads(),
            torch.is_grad_enabled(), torch.get_default_dtype(), len(logging.getLogger().handlers), dict(os.environ), os.getcwd())
before, files = state(), set(os.listdir("."))
import sbi_flows
print([name for name in {HEAVY!r} if name in sys.modules], before == state(), set(os.listdir(".")) == files)
"""
    assert in_a_fresh_process(code) == "[] True True"


def test_no_file_is_longer_than_350_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: n for name, n in lengths.items() if n > 350} == {}


def test_no_statement_asserts_on_input_and_nothing_in_a_file_can_run() -> None:
    found = []
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                found.append(f"{path.name}:{node.lineno} assert")
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("eval", "exec", "torch.load", "yaml.load") or name.startswith(("pickle.", "cloudpickle.", "marshal.")):
                    found.append(f"{path.name}:{node.lineno} {name}")
    assert found == []


def test_every_module_opens_with_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(sf.__path__, "sbi_flows."):
        assert importlib.import_module(module.name).__doc__, module.name


def test_the_version_is_the_newest_entry_of_the_changelog() -> None:
    from importlib.metadata import version

    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert version("sbi_flows") in entries[:2]


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
def test_python_blocks_of_the_readme_are_valid(block: str) -> None:
    ast.parse(block)
