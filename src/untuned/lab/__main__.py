"""The command `untuned`, or `python -m untuned.lab`: dispatches to one of the programs."""

import importlib
import sys

from untuned import __version__

PROGRAMS = {
    "train": "train a workload with an optimizer; the run can be resumed",
    "compare": "compare optimizers on workloads, each tuned as its users would, and draw a report",
    "report": "draw the report of a comparison again",
    "bench": "measure time and memory of optimizer steps on models of many shapes",
    "reproduce": "train a figure or table of the papers again",
}


def main() -> None:
    """Run the program that the first argument names with the remaining arguments."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "--version":
        sys.stdout.write(f"untuned {__version__}\n")
        return
    if name not in PROGRAMS:
        width = max(map(len, PROGRAMS))
        lines = [f"  {name:{width}}  {what}" for name, what in PROGRAMS.items()]
        sys.exit("\n".join(["usage: untuned PROGRAM [--help]", "       untuned --version", *lines]))
    try:
        program = importlib.import_module(f"untuned.lab.programs.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing: pip install 'untuned[lab]'")
    program.main(arguments)


if __name__ == "__main__":
    main()
