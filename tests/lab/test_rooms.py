"""The rooms of the lab: which may import which, and that a name means one thing."""

import ast
from collections import defaultdict

from support.pages import ROOT

LAB = ROOT / "src" / "untuned" / "lab"
# From the ground up: each imports from those before it, at the most
ROOMS = (
    "errors", "own", "baselines", "config", "workloads", "training", "comparison", "report",
    "reproduce", "bench", "programs",
)  # fmt: skip
TABLES = {"main", "EXPERIMENTS", "WORKLOADS", "PAPER"}  # one of each kind in every module


def imported(tree):
    """Modules of the lab that a module imports when it is loaded, or in its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("untuned.lab."):
            yield node.module


def public(tree):
    """Names that a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_rooms_import_downwards_alone():
    for path in LAB.rglob("*.py"):
        room = path.relative_to(LAB).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
            assert ROOMS.index(module.split(".")[2]) <= ROOMS.index(room), (path, module)


def test_workloads_of_everyday_know_nothing_of_the_papers():
    for path in (LAB / "workloads").glob("*.py"):
        if path.stem != "registry":
            names = imported(ast.parse(path.read_text(encoding="utf-8")))
            assert not any(name.startswith("untuned.lab.workloads.papers") for name in names), path


def test_a_name_of_the_lab_means_one_thing():
    found = defaultdict(set)
    for path in LAB.rglob("*.py"):
        for name in public(ast.parse(path.read_text(encoding="utf-8"))):
            if not name.startswith("_"):
                found[name].add(str(path.relative_to(LAB)))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert twice.keys() <= TABLES, twice
