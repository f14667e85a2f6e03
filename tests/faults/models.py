"""Simulators that workers find by their name, and what the fault tests know about them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, uniform

import sbi_flows as sf

F = np.ndarray
PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))
LOG, SECONDS = "SBI_FLOWS_FAULTS_LOG", "SBI_FLOWS_FAULTS_SECONDS"


def numbers(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """y_j = a + b e_j, 3 numbers, for one row or many."""
    a, b = np.asarray(theta["a"]), np.asarray(theta["b"])
    return a[..., None] + b[..., None] * rng.standard_normal((*a.shape, 3))


@sf.simulator(PRIOR)
def logged(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """Takes a while, and says in a log, by the first a, which block it is making."""
    descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{float(theta['a'][0]).hex()}\n".encode())
    os.close(descriptor)
    time.sleep(float(os.environ.get(SECONDS, "0")))
    y = numbers(theta, rng)
    y[theta["a"] < 0.05, 0] = np.nan
    return y


@sf.simulator(PRIOR)
def whole(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """Vectorised: some rows are NaN, and where b > 3.1 is among them the call raises."""
    y = numbers(theta, rng)
    if (theta["b"] > 3.1).any():
        raise OverflowError(f"b is {theta['b'].max():.3f}")
    y[theta["a"] < 0.05, 1] = np.inf
    return y


@sf.simulator(PRIOR, vectorized=False)
def alone(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """One draw at a time: some raise, some are NaN, some have another shape."""
    y = numbers(theta, rng)
    if theta["a"] < 0.05:
        raise ValueError(f"a is {theta['a']:.3f}")
    if theta["a"] < 0.10:
        y[1] = np.nan
    return y[:2] if 0.10 < theta["a"] < 0.11 else y


@sf.simulator(PRIOR)
def narrow_later(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """Returns one number instead of three in a block that holds b > 2."""
    y = numbers(theta, rng)
    return y[:, :1] if (theta["b"] > 2).any() else y


def make_killer(mark: Path) -> sf.Simulator:
    """SIGKILLs the process that it is in, unless it is this one, in a block with a > 0.6 in front; once, of
    which a file is the sign.
    """
    driver = os.getpid()

    @sf.simulator(PRIOR)
    def killer(theta: dict[str, Any], rng: np.random.Generator) -> F:
        time.sleep(0.002)
        if len(theta["a"]) > 8 and theta["a"][0] > 0.6 and os.getpid() != driver and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers(theta, rng)

    return killer


def compile_stuck(folder: Path) -> str | None:
    """A C function that loops for ever, holding the interpreter's lock; None without a compiler."""
    import shutil
    import subprocess

    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "stuck.c").write_text("int stuck(void) { volatile int i = 1; while (i) { } return 0; }\n")
    library = folder / "stuck.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "stuck.c")], check=True)
    return str(library)


def hold_the_lock_for_ever(library: str | None) -> None:
    """In C, with the interpreter's lock: no Python thread or signal handler of this process runs again."""
    if library is not None:
        ctypes.PyDLL(library).stuck()
    while True:
        pow(3, 10**9)


WAYS = ("raise", "nan", "sleep", "lock", "segfault", "leave", "exit", "shape", "object", "write", "print")
_EDGES = np.array([0.05, 0.10, 0.11, 0.12, 0.127, 0.134, 0.144, 0.154, 0.164, 0.174, 0.184])


def way(a: F | float) -> F:
    """In which way each row fails, as a place in WAYS; len(WAYS) is not at all."""
    return np.searchsorted(_EDGES, a, side="right")


def make_awful(library: str | None, **changes: Any) -> sf.Simulator:
    """Each of WAYS in its share of the rows: 5% raise, 5% NaN, 1% sleep, 1% hang in C, 0.7% segfaults, and so
    on.
    """

    @sf.simulator(PRIOR, vectorized=False)
    def awful(theta: dict[str, Any], rng: np.random.Generator) -> F:
        y = numbers(theta, rng)
        kind = int(way(theta["a"]))
        if kind == len(WAYS):
            return y
        match WAYS[kind]:
            case "raise":
                raise ValueError(f"a is {theta['a']:.3f}")
            case "nan":
                return y * np.nan
            case "sleep":
                time.sleep(1e6)
            case "lock":
                hold_the_lock_for_ever(library)
            case "segfault":
                ctypes.string_at(0)
            case "leave":
                os._exit(3)
            case "exit":
                sys.exit(4)
            case "shape":
                return y[:2]
            case "object":
                return np.array([1.0, "two", None], dtype=object)
            case "write":
                theta["a"] = 0.0
                theta["b"] += 1.0
            case "print":
                print("x" * 1_000_000)
        return y

    return awful


@sf.simulator(PRIOR, event_shape=(3,))
def waiting(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """Takes 5 ms a call, and 5% of its rows have no value."""
    time.sleep(0.005)
    y = numbers(theta, rng)
    y[rng.random(len(y)) < 0.05, 0] = np.nan
    return y


@sf.simulator(PRIOR, vectorized=False, event_shape=(3,))
def awkward(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """5% of the rows raise and 1% hang, wherever theta is."""
    y, kind = numbers(theta, rng), rng.random()
    if kind < 0.05:
        raise ValueError("no value")
    if kind < 0.06:
        time.sleep(1e6)
    return y
