"""The README tells the truth: its code runs, and what it names exists."""

import re
import subprocess
import sys

from support.pages import ROOT, blocks_of

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_learns():
    scope: dict = {}
    (example,) = blocks_of(README)
    exec(example.replace("print(", "rate = ("), scope)
    assert 0 < float(scope["rate"]) < 1
    assert float(scope["loss"].detach()) < 2.3


def test_every_file_that_it_names_exists():
    for path in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / path).exists(), path
    tree = README.split("## Folders")[1].split("```")[1]
    for name in re.findall(r"^(\S+/) ", tree, re.MULTILINE):
        assert (ROOT / name).is_dir(), name


def test_the_benchmark_prints_its_table():
    asked = ["small", "--optimizers", "agd", "nero", "--repeats", "1"]
    command = [sys.executable, str(ROOT / "benchmarks/step.py"), *asked]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(row in table for row in ("agd", "nero", "AdamW(fused)", "SGD(fused)"))
