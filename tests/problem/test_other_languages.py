"""Real programs in C, R and Python: the pairs (theta, y) that come back are draws from the joint
distribution.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, norm, uniform

import sbi_flows as sf
from simulators.ricker import CLASSIC_PRIOR, ricker

PRIOR = sf.Prior(a=uniform(0, 1), b=uniform(1, 1))
PROGRAMS = Path(__file__).parents[2] / "examples" / "programs"


def compiled(source: Path, to: Path) -> list[str]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-o", to, source, "-lm"],
        check=True,
    )
    return [str(to)]


def r_script(source: Path, to: Path) -> list[str]:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed (Rscript)")
    return ["Rscript", "--vanilla", str(source)]


LANGUAGES = {"c": compiled, "R": r_script, "py": lambda source, to: [sys.executable, str(source)]}
NORMAL = {
    "c": r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    unsigned seed;
    double a, b;
    while (scanf(" {\"seed\": %u, \"theta\": {\"a\": %lf, \"b\": %lf}}", &seed, &a, &b) == 3) {
        srand(seed);
        double u = (rand() + 0.5) / (RAND_MAX + 1.0), v = (rand() + 0.5) / (RAND_MAX + 1.0);
        printf("{\"y\": %.17g}\n", a + b * sqrt(-2 * log(u)) * cos(2 * acos(-1) * v));
        fflush(stdout);
    }
    return 0;
}
""",
    "R": r"""
input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1)) > 0) {
  numbers <- as.numeric(regmatches(line, gregexpr("[-+.0-9e]+(?=[,}])", line, perl = TRUE))[[1]])
  set.seed(numbers[1])
  cat(sprintf('{"y": %.17g}\n', rnorm(1, numbers[2], numbers[3])))
}
""",
}


@pytest.mark.parametrize("language", NORMAL)
def test_pairs_from_another_language_follow_the_joint_distribution(language: str, tmp_path: Path) -> None:
    """(y - a)/b is standard normal, whatever theta, and a uniform: Kolmogorov-Smirnov, false alarm rate 1e-5
    each.
    """
    source = tmp_path / f"normal.{language}"
    source.write_text(NORMAL[language])
    model = sf.command_simulator(LANGUAGES[language](source, tmp_path / "normal"), PRIOR)
    sims = sf.simulate(model, 3000, seed=6)
    noise = (sims.y - sims.theta[:, 0]) / sims.theta[:, 1]
    assert kstest(noise, norm.cdf).pvalue > 1e-5
    assert kstest(sims.theta[:, 0], "uniform").pvalue > 1e-5
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 4.4 / math.sqrt(len(noise))
    assert sf.simulate(model, 3000, seed=6).y.tobytes() == sims.y.tobytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_ricker_programs_simulate_what_the_plugin_does(language: str, tmp_path: Path) -> None:
    """Means, numbers of zeros, first and last counts: two-sample Kolmogorov-Smirnov, false alarm rate 1e-5
    each (less for counts).
    """
    model = sf.command_simulator(
        LANGUAGES[language](PROGRAMS / f"ricker.{language}", tmp_path / "ricker"), CLASSIC_PRIOR
    )
    assert (model.name, model.event_shape) == ("ricker", (100,))
    theirs, ours = sf.simulate(model, 800, seed=1).y, sf.simulate(ricker, 20_000, seed=2).y
    for statistic in (
        lambda y: y.mean(axis=1),
        lambda y: (y == 0).mean(axis=1),
        lambda y: y[:, 0],
        lambda y: y[:, -1],
    ):
        assert ks_2samp(statistic(theirs), statistic(ours)).pvalue > 1e-5
