"""The README tells the truth: its code runs, and its equation is the code."""

import inspect
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import tyro

from untuned.lab.__main__ import PROGRAMS
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.program import Options
from untuned.rules import AGD

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs_and_learns():
    scope: dict = {}
    exec(SNIPPETS[0].replace("print(", "rate = ("), scope)
    assert 0 < float(scope["rate"]) < 1
    assert float(scope["loss"].detach()) < 2.3


def test_the_nero_example_runs():
    scope: dict = {}
    exec(SNIPPETS[2], scope)
    assert scope["model"].weight.detach().norm(dim=1).tolist() == pytest.approx([1.0] * 10)


def test_the_tower_example_runs_and_prints_every_floor():
    scope: dict = {}
    exec(SNIPPETS[3].replace("print(", "floors = ("), scope)
    assert [set(floor) for floor in scope["floors"]] == [{"lr", "beta1", "beta2", "eps"}] * 2
    assert scope["floors"][0]["lr"] != pytest.approx(1e-3)


def test_a_rule_of_ones_own_takes_ten_lines_and_has_towers_for_free():
    assert len(SNIPPETS[4].split("@dataclass")[1].strip().splitlines()) <= 10
    scope: dict = {}
    exec(SNIPPETS[4], scope)
    opt = scope["opt"]
    for _ in range(3):
        for param in opt.param_groups[0]["params"]:
            param.grad = torch.ones_like(param)
        opt.step()
    below, _ = opt.hyperparameters()[0]
    assert below["lr"] > 0.01
    assert below["sharpness"] != pytest.approx(5.0, rel=1e-9)


def code_of(function) -> str:
    """The body of a function, without its docstring, comments and signature."""
    source = textwrap.dedent(inspect.getsource(function))
    body = source.split('"""')[2] if '"""' in source else source.split("\n", 1)[1]
    return without_comments(body)


def without_comments(code: str) -> str:
    lines = [line.strip() for line in code.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def test_the_code_beside_the_equation_is_the_librarys():
    shown = SNIPPETS[1].split("def ")[1:]
    for text, function in zip(shown, (AGD.step_size, AGD.update), strict=True):
        assert without_comments(text.split("\n", 1)[1]) == code_of(function)


def test_every_file_and_target_that_it_names_exists():
    for path in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / path).exists(), path
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in targets
    tree = README.split("## Folders")[1].split("```")[1]
    for name in re.findall(r"^  (\S+)", tree, re.MULTILINE):
        assert (ROOT / "src" / "untuned" / name).exists(), name
    for name in re.findall(r"^(\S+/) ", tree, re.MULTILINE):
        assert (ROOT / name).is_dir(), name


BENCHES = re.findall(r"`untuned bench ([^`]+)`", README)


@pytest.mark.parametrize("asked", BENCHES)
def test_the_commands_of_the_tables_are_understood(asked):
    options = tyro.cli(Options, args=shlex.split(asked))
    assert options.models
    assert set(options.models) <= MODELS.keys()


def test_the_benchmark_prints_its_table():
    asked = ["small", "--optimizers", "agd", "nero", "--repeats", "1"]
    command = [sys.executable, str(ROOT / "benchmarks/step.py"), *asked]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(row in table for row in ("agd", "nero", "AdamW(fused)", "SGD(fused)"))


def test_the_tables_name_commands_that_exist():
    for script in re.findall(r"`python (benchmarks/\S+)`", README):
        assert (ROOT / script).exists(), script
    for program in re.findall(r"`untuned (\w+)", README):
        assert program in PROGRAMS, program
