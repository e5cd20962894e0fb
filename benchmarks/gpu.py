"""What a step of an optimizer costs on a GPU; needs torch alone, and runs straight from the tree.

    python benchmarks/gpu.py [--quick] [--models large ...] [--scaling] [--output RESULTS]

For every model of `untuned bench`: time and memory beside torch's fused SGD and AdamW, how many
kernels a step launches, whether the host waits for the device in it (an error of
`torch.cuda.set_sync_debug_mode`), whether a graph can capture it; then what optimizers add to a
training step of GPT-2 small on 8 x 1024 tokens, and with --scaling how times grow. Peers whose
packages are missing are left out. What fails is told, and the rest goes on; the program then exits
with 1. `--device cpu` only tries it out.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from untuned.lab.bench import tables
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.scaling import points
from untuned.lab.bench.steps import CONTESTANTS, Settings, available, bench
from untuned.lab.bench.training import overheads

QUICK = ("tiny", "small")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny models: does it run?")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="these instead of all")
    parser.add_argument("--optimizers", nargs="+", default=CONTESTANTS, help="as text")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30, help="at most, of turns for a model")
    parser.add_argument("--eager", action="store_true", help="untuned's rules without a compiler")
    parser.add_argument("--compile", action="store_true", help="whole steps by torch.compile")
    parser.add_argument("--scaling", action="store_true", help="and how times grow")
    parser.add_argument("--output", type=Path, help="a file of Markdown, and .jsonl beside it")
    return parser.parse_args()


def main() -> None:
    """Print tables in Markdown as they come."""
    given = arguments()
    settings = Settings(given.device, given.repeats, given.seconds, given.compile, given.eager)
    names = given.models or [name for name in MODELS if name != "tiny"]
    if given.quick:
        names, settings = QUICK, Settings(given.device, 3, 5, given.compile, True, 2**20)
    texts, missing = available(given.optimizers)
    told, lines = [f"`{' '.join(sys.argv)}`", tables.machine(given.device), *missing], ""
    print("\n\n".join(told))
    failed = False
    for name in [*names, "training", *(["scaling"] if given.scaling else [])]:
        try:
            found, table = measured(name, texts, settings, given.quick)
            told.append(tables.markdown(table))
            lines += tables.json_lines(found)
        except Exception:  # a device that nobody has tried may refuse in many ways
            failed = True
            told.append(f"{name} failed:\n\n```\n{traceback.format_exc()}```")
        print("\n" + told[-1], flush=True)
        if given.output:
            given.output.write_text("\n\n".join(told) + "\n", encoding="utf-8")
            given.output.with_suffix(".jsonl").write_text(lines, encoding="utf-8")
    sys.exit(failed)


def measured(
    name: str, texts: Sequence[str], settings: Settings, quick: bool
) -> tuple[Sequence[Any], tables.Table]:
    """A model's steps, the training's, or how times grow."""
    if name == "training":
        trained = overheads(texts, settings, quick)
        return trained, tables.of_training(trained)
    if name == "scaling":
        grown = points(texts, settings)
        return grown, tables.of_scaling(grown)
    rows = bench(name, texts, settings)
    return rows, tables.of_steps(rows)


if __name__ == "__main__":
    main()
