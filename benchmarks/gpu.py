"""What a step of an optimizer costs on a GPU; needs torch alone, and runs straight from the tree.

    python benchmarks/gpu.py [--quick] [--models large ...] [--scaling] [--output RESULTS.md]

`untuned bench` on CUDA: every model, then training steps of GPT-2 small on 8 x 1024 tokens, and
with --scaling how times grow. Baselines whose packages are missing are left out. If a measurement
fails, the others go on, and the program exits with 1. `--device cpu` only tries it out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from untuned.lab.programs.bench import main

if __name__ == "__main__":
    main(device="cuda", repeats=50, seconds=30, threads=None, all=True)
