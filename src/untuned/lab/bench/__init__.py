"""`untuned bench`: what a step of an optimizer costs, in time and memory.

All but `program` and `scaling` needs torch alone, so that `benchmarks/gpu.py` runs straight from
the tree on a machine that has nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The program; imported here, for it needs the lab's packages."""
    from untuned.lab.bench import program

    program.main(arguments)
