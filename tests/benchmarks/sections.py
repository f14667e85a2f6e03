"""Benchmarks in sections: each prints measurements, the bars that they are held to, and whether they pass."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

Section = Callable[[argparse.Namespace], None]


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows `description` as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(parser: argparse.ArgumentParser, sections: Sequence[Section], default: Sequence[Section]) -> None:
    """Run the sections that the command line names, or those of `default`."""
    by_name = {section.__name__: section for section in sections}
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(by_name))
    options = parser.parse_args()
    if unknown := set(options.sections) - set(by_name):
        parser.error(f"sections are {', '.join(by_name)}; got {', '.join(sorted(unknown))}.")
    for section in [by_name[name] for name in options.sections] or default:
        section(options)


def report(what: str, value: float, bar: float, at_least: bool = False, note: str = "") -> None:
    """Print one measurement; it passes at or below the bar, or at or above it if `at_least`."""
    passes = value >= bar if at_least else value <= bar
    result = f"{'>=' if at_least else '<='} {bar:<7.4g} {'pass' if passes else 'FAIL'}"
    print(f"{what:<58} {value:9.4f}  {result}  {note}", flush=True)
