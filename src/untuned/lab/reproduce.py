"""Figures of the papers, run again.

untuned reproduce --list
untuned reproduce nero-mlp100 --small
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from untuned.lab import nero, towers

EVERY = (nero.MLP100, towers.HEIGHTS, towers.RULES, towers.FLOORS)
FIGURES = {figure.name: figure for figure in EVERY}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="untuned reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=FIGURES)
    parser.add_argument("--list", action="store_true", help="what there is, and what it needs")
    parser.add_argument("--small", action="store_true", help="smaller and shorter, for few cores")
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), help="folder (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if options.list or not options.name:
        for figure in FIGURES.values():
            for size, needs in figure.needs.items():
                console.print(f"{figure.name} ({size}): {figure.source}. Needs {needs}.")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    FIGURES[options.name].run("small" if options.small else "full", console, options.output)


if __name__ == "__main__":
    main()
