"""What a step of an optimizer costs on a GPU; needs torch alone, and runs straight from the tree.

    python benchmarks/gpu.py [--quick] [--models large ...] [--output RESULTS]

For every model of `untuned bench`: time and memory beside torch's fused SGD and AdamW, how many
kernels a step launches, whether the host waits for the device in it (an error of
`torch.cuda.set_sync_debug_mode`), whether a graph can capture it; then what optimizers add to a
training step of GPT-2 small on 8 x 1024 tokens. Peers whose packages are missing are left out.
`--device cpu` only tries the program out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from untuned.lab.bench import tables
from untuned.lab.bench.models import MODELS
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
    for name in [*names, "training"]:
        if name == "training":
            found = overheads(texts, settings, given.quick)
            table = tables.of_training(found)
        else:
            found = bench(name, texts, settings)
            table = tables.of_steps(found)
        told.append(tables.markdown(table))
        lines += tables.json_lines(found)
        print("\n" + told[-1], flush=True)
        if given.output:
            given.output.write_text("\n\n".join(told) + "\n", encoding="utf-8")
            given.output.with_suffix(".jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
