"""`untuned report`: the page and the tables of a comparison, drawn again from its folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console


def main(arguments: Sequence[str] | None = None) -> None:
    """Write them; the comparison may still be going on."""
    from untuned.lab.cells import Cells
    from untuned.lab.comparison import Comparison
    from untuned.lab.report import exports, terminal

    parser = argparse.ArgumentParser(prog="untuned report", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `untuned compare --folder` was given")
    folder = parser.parse_args(arguments).folder
    try:
        comparison = Comparison.load(folder)
    except FileNotFoundError:
        sys.exit(f"error: {folder} holds no comparison; make one with untuned compare")
    cells = Cells(folder / "cells.jsonl")
    page = exports.write(comparison, cells, folder)
    console = Console(highlight=False)
    console.print(terminal.overview(comparison, cells))
    console.print(f"Page: {page}")
