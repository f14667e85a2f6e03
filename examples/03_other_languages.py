"""A simulator in another language: the Ricker model in C, in R and in Python, each a program of its own.

The program reads one request per line and answers with one line; `programs/README.md` says how to write it.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import sbi_flows as sf

PROGRAMS = Path(__file__).parent / "programs"


def commands() -> dict[str, list[str]]:
    """The programs that this machine can run, by language; C is compiled into the current folder."""
    found = {}
    if compiler := shutil.which("cc"):
        subprocess.run([compiler, "-O2", "-o", "ricker", str(PROGRAMS / "ricker.c"), "-lm"], check=True)
        found["C"] = ["./ricker"]
    else:
        print("There is no C compiler (cc) here, so the C program is left out.")
    if shutil.which("Rscript"):
        found["R"] = ["Rscript", str(PROGRAMS / "ricker.R")]
    else:
        print("R (Rscript) is not installed here, so the R program is left out.")
    found["Python"] = [sys.executable, str(PROGRAMS / "ricker.py")]
    return found


if __name__ == "__main__":
    n = int(os.environ.get("SBI_FLOWS_EXAMPLE_N", 20_000))
    ricker = sf.load_simulator("ricker")
    models = {
        language: sf.command_simulator(command, ricker.prior) for language, command in commands().items()
    }
    for language, model in models.items():
        start = time.monotonic()
        simulations = sf.simulate(model, 200, seed=1)
        seconds, mean = time.monotonic() - start, simulations.y.mean()
        print(f"{language:6}  200 simulations in {seconds:.2f} s, {mean:.1f} animals on average")
    language, model = next(iter(models.items()))
    print(f"Fitting with the {language} program.")
    posterior = sf.fit(model, n_simulations=n, seed=1)
    draws = posterior.sample(ricker.data("classic"), 4_000, seed=2)
    print(draws.summary())
    print(draws.verdict)
