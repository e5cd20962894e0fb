"""Docstrings of the public API: arguments named, one by one, wherever there are several."""

import ast
import re
from pathlib import Path

import pytest

import untuned

LIBRARY = Path(untuned.__file__).parent
CONTRACTS = (
    "blockwise", "charts", "domain", "elementwise", "notation", "rule", "tower", "tunable",
    "execution/executor", "optimizer/initialise", "optimizer/named", "optimizer/shell",
    "optimizer/step", "geometry/assignment", "geometry/layer", "geometry/layers",
)  # fmt: skip
RULES = [f"rules/{path.stem}" for path in (LIBRARY / "rules").glob("[!_]*.py")]


def arguments(function: ast.FunctionDef) -> list[str]:
    every = [arg.arg for arg in (*function.args.args, *function.args.kwonlyargs)]
    return [name for name in every if name not in ("self", "cls")]


def fields(node: ast.ClassDef) -> list[str]:
    """What a dataclass is made with."""
    decorated = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    annotated = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    given = [each for each in annotated if "ClassVar" not in ast.unparse(each.annotation)]
    given = [each for each in given if "init=False" not in ast.unparse(each)]
    return [each.target.id for each in given if isinstance(each.target, ast.Name)] * decorated


def documented(module: str) -> list[tuple[str, list[str], str]]:
    """The public classes and functions of a module: name, arguments, docstring."""
    found = []
    for node in ast.parse((LIBRARY / f"{module}.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found.append((node.name, arguments(node), ast.get_docstring(node) or ""))
        if not isinstance(node, ast.ClassDef) or node.name.startswith(("_", "Published")):
            continue
        made = fields(node)
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                made = arguments(each)
        found.append((node.name, made, ast.get_docstring(node) or ""))
        for each in node.body:
            # an override without a docstring has that of its base
            if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                doc = ast.get_docstring(each)
                base_says = not doc and bool(node.bases)
                if not base_says and not overrides(node, each.name):
                    found.append((f"{node.name}.{each.name}", arguments(each), doc or ""))
    return found


BASES = {"Rule", "Elementwise", "Blockwise", "Layer", "Executor", "AGD", "FreeNero", "Adam"}
HOOKS = {
    name
    for module in ("rule", "elementwise", "blockwise", "tunable", "geometry/layer")
    for node in ast.parse((LIBRARY / f"{module}.py").read_text()).body
    if isinstance(node, ast.ClassDef)
    for name in [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
}


def overrides(node: ast.ClassDef, name: str) -> bool:
    """Whether a method is a rule's or a layer's own form of one that the base class documents."""
    bases = {ast.unparse(base) for base in node.bases}
    return name in HOOKS and bool(bases & BASES)


@pytest.mark.parametrize("module", [*CONTRACTS, *RULES])
def test_arguments_are_documented_where_there_are_several(module):
    for name, args, doc in documented(module):
        assert doc, f"{module}.{name} has no docstring"
        if len(args) > 1:
            lines = re.findall(r"^ {4}(.+?):", doc.partition("Args:\n")[2], re.M)
            named = {each for line in lines for each in re.split(r",\s*", line)}
            missing = [arg for arg in args if arg not in named]
            assert not missing, f"{module}.{name} does not say what {missing} are"


def test_the_test_sees_what_is_missing():
    made = {name: args for name, args, _ in documented("optimizer/plan")}
    assert made["GroupPlan"][:5] == ["tower", "compile", "group", "number", "params"]
    assert any(len(args) > 1 for _, args, _ in documented("rules/nero"))
