"""The programs behind the figures of Auto's page."""

import importlib
import re
import sys

import pytest

from support.pages import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture
def table(tmp_path, monkeypatch, forks):
    """The rows that a program writes, run in this process, as lists of cells."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def written(program, **options):
        module = importlib.import_module(program)
        monkeypatch.setattr(module, "get_context", lambda _: forks)  # they train in forks of one
        output = tmp_path / "table.md"
        module.main(module.Options(jobs=1, seeds=1, output=output, **options))
        rows = output.read_text(encoding="utf-8").splitlines()
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]

    yield written
    for program in ("auto", "finetune", "ranges"):
        sys.modules.pop(program, None)


def test_the_ablation_takes_away_what_it_names(data, table):
    variants = ("as it is", "a head that moves as vectors do")
    head, _, *rows = table("auto", workloads=("gcn-cora",), variants=variants)
    assert head[1:] == ["gcn-cora", "all"]
    assert [row[0] for row in rows] == list(variants)
    saved = [float(row[1].replace("never", "0")) for row in rows]
    assert saved[0] > 1.5 * max(1, saved[1])  # what the head's own step is for


def test_ranges_have_a_row_for_each_network(data, table):
    head, _, *rows = table("ranges", sweeps=("width",), widest=32, steps=30)
    assert head[:5] == ["depth", "width", "batch", "initialised by", "Auto"]
    assert [row[1] for row in rows] == ["32"]
    for row in rows:
        auto, default, best = map(float, row[4:7])
        assert best <= default < 2.3  # as chance has it
        assert auto < 2.3
        assert re.fullmatch(r"[0-9.e-]+", row[7])


def test_trained_weights_go_on_from_where_they_are(data, table):
    head, _, row = table("finetune", before=60, steps=(20,))
    assert head[:4] == ["steps", "before", "Auto", "forgets"]
    before, auto, _, shorter, _, default, _, best, _, _ = map(float, row[1:])
    assert before < 6  # of eight bits: War and Peace has taught it something
    assert best <= default < before
    assert max(auto, shorter) < before
