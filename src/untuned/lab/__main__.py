"""The command `untuned`, or `python -m untuned.lab`: the lab's programs by name."""

from __future__ import annotations

import importlib
import sys

PROGRAMS = {
    "train": "train a workload with an optimizer, in a folder that a run can resume from",
    "compare": "train optimizers on workloads, each tuned as its users would, and draw the page",
    "report": "draw the page of a comparison again",
    "bench": "time and memory of optimizers' steps, on models of many shapes",
    "reproduce": "run a figure of the papers again",
}


def main() -> None:
    """Hand the command line to the program that it names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name not in PROGRAMS:
        width = max(map(len, PROGRAMS))
        lines = [f"  {name:{width}}  {what}" for name, what in PROGRAMS.items()]
        sys.exit("\n".join(["usage: untuned PROGRAM [--help]", *lines]))
    try:
        program = importlib.import_module(f"untuned.lab.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing: pip install 'untuned[lab]'")
    program.main(arguments)


if __name__ == "__main__":
    main()
