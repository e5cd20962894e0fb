"""The README and the first page tell the truth: their code runs, what they name exists."""

import json
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import untuned
from support.pages import DOCS, ROOT, blocks_of, run_page, text_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
SITUATIONS = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in text_of("index").split("| your situation |")[1].split("\n\n")[0].splitlines()[2:]
]


def test_its_three_lines_make_an_optimizer_that_trains():
    (example,) = blocks_of(README)
    assert len([line for line in example.splitlines() if line]) <= 3
    scope = {"model": nn.Linear(4, 2)}
    exec(example, scope)
    before = scope["model"].weight.detach().clone()
    scope["model"](torch.ones(1, 4)).sum().backward()
    scope["opt"].step()
    assert (scope["model"].weight.detach() < before).all()


def test_every_file_that_it_names_exists():
    places = dict(re.findall(r"^\[(\w+)\]: ([^#\s]+)", README, re.MULTILINE))
    for path in places.values():
        assert (ROOT / path).exists(), path
    asked = set(re.findall(r"\]\[(\w+)\]", README))
    assert asked == places.keys()
    assert "](" not in README  # all links stand at the end


def test_its_table_is_that_of_the_results():
    rows = re.findall(r"^\| (.+) \| (\d+) \| ([\d.]+) \| (\d+ of 20) \|$", README, re.MULTILINE)
    names = ["auto", "adamw-tuned", "adamw"]
    results = text_of("results").split("## All optimizers on the first twenty")[1]
    for name, (_, trainings, saved, reached) in zip(names, rows, strict=True):
        row = re.search(rf"^\| {name} \| (.+) \|$", results, re.MULTILINE)[1].split(" | ")
        assert [float(saved), reached] == [float(row[1]), row[4]]
        assert int(trainings) == round(float(row[7]))
    assert (
        f"({re.search('^. auto .*', results, re.MULTILINE)[0].split(' | ')[3]} in seconds)"
        in README
    )


def test_the_steps_below_its_picture_are_those_of_the_results():
    said = re.search(r"in (\d+) steps, AGD in (\d+), AdamW\s+itself in (\d+)", README)
    auto, agd, adamw = map(int, said.groups())
    results = text_of("results").split("## All optimizers on the first twenty")[1]
    row = re.search(r"^\| fcn8-digits \| (.+) \|$", results, re.MULTILINE)[1].split(" | ")
    assert adamw / auto == pytest.approx(float(row[0].split()[0]), rel=0.01)
    assert adamw / agd == pytest.approx(float(row[6].split()[0]), rel=0.01)


def test_its_trainings_are_as_long_as_it_says():
    cells = (DOCS / "results" / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [cell["steps"] for cell in map(json.loads, cells) if cell["optimizer"] == "auto"]
    assert f"{min(steps)} to {max(steps)} steps" in README


def test_the_first_page_makes_optimizers_with_and_without_a_horizon():
    opt = run_page("index", slice(1), model=nn.Linear(4, 2))["opt"]
    assert (type(opt), opt.param_groups[0]["horizon"]) == (untuned.Auto, 0)
    opt = run_page("index", model=nn.Linear(4, 2))["opt"]
    assert (type(opt), opt.param_groups[0]["horizon"]) == (untuned.Auto, 10_000)


@pytest.mark.parametrize("row", SITUATIONS, ids=[row[0].split("]")[0] for row in SITUATIONS])
def test_what_to_write_is_what_the_page_of_the_situation_writes(row):
    """Whose code other tests run."""
    situation, written = row
    page = text_of(re.search(r"\]\((\S+)\.md", situation)[1])
    for code in re.findall(r"`([^`]+)`", written):
        assert code.removesuffix("(...)") in page
    assert len(SITUATIONS) == 9


def test_the_benchmark_prints_its_table():
    asked = ["small", "--optimizers", "agd", "nero", "--repeats", "1"]
    command = [sys.executable, str(ROOT / "benchmarks/step.py"), *asked]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(row in table for row in ("agd", "nero", "AdamW(fused)", "SGD(fused)"))
