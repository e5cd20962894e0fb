"""The shape of the house: who may import whom, one name for one thing, docstrings."""

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import untuned

LIBRARY = Path(untuned.__file__).parent
ROOMS = (
    "geometry", "rules", "distributed", "execution", "towers",
    "passes", "inference", "averaging", "optimizer",
)  # fmt: skip
CONTRACTS = {
    "__init__", "_tensors", "blockwise", "charts", "domain", "elementwise", "errors", "notation",
    "rule", "tower", "tunable",
}  # fmt: skip
ALIASES = {"assignment", "floors", "layer"}  # of module paths before 0.2, for one release

# which modules no module of a part of the library may reach, by whatever way
FORBIDDEN = {
    "rules": ("distributed", "execution", "optimizer", "towers"),
    "rule": ("distributed", "execution", "optimizer", "towers"),
    "elementwise": ("distributed", "execution", "optimizer", "towers"),
    "blockwise": ("distributed", "execution", "optimizer", "towers"),
    "tunable": ("distributed", "execution", "geometry", "optimizer", "rule", "tower", "towers"),
    "tower": ("distributed", "execution", "geometry", "optimizer", "rule", "towers"),
    "geometry": ("distributed", "execution", "optimizer", "rule", "rules", "towers"),
    "distributed": ("execution", "optimizer", "rule", "rules", "tower", "towers"),
    "execution": ("optimizer", "rules", "towers"),
    "towers": ("optimizer", "rules"),
    "passes": ("averaging", "execution", "inference", "optimizer", "rules", "towers"),
    "inference": ("averaging", "optimizer", "towers"),
    "averaging": ("inference", "optimizer", "rules", "towers"),
    "optimizer": ("lab",),
}


def library_files() -> list[Path]:
    return [path for path in LIBRARY.rglob("*.py") if "lab" not in path.relative_to(LIBRARY).parts]


def module_of(path: Path) -> str:
    """Below `untuned`, such as `geometry.layer`; a package's face by the package's name."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in library_files()}


def names_imported(path: Path) -> set[str]:
    """All that a file imports, wherever it does: for types only, or within a function, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the library that a module imports itself."""
    found = set()
    for name in names_imported(MODULES[module]):
        parts = name.split(".")
        if parts[0] != "untuned":
            continue
        stems = [".".join(parts[1 : i + 1]) for i in range(len(parts) - 1, 0, -1)]
        found.add(
            next((stem for stem in stems if stem in MODULES), "lab" if "lab" in parts else "")
        )
    return frozenset(found - {"", module})


@cache
def reached(module: str) -> frozenset[str]:
    """The modules that a module imports, and those that these import, and so on."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = imports(waiting.pop()) - found
        found |= new
        waiting += new & MODULES.keys()
    return frozenset(found)


def inside(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def test_the_library_depends_on_torch_alone():
    for path in library_files():
        roots = {name.split(".")[0] for name in names_imported(path)}
        # typing_extensions: for type checkers only
        outside = roots - set(sys.stdlib_module_names) - {"torch", "untuned", "typing_extensions"}
        assert not outside, f"{path.name} imports {outside}"


def test_the_library_never_imports_the_lab():
    for path in library_files():
        assert not any(name.startswith("untuned.lab") for name in names_imported(path)), path


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_arrow_runs_up(part):
    for module in MODULES:
        if inside(module, part):
            for name in reached(module):
                assert not any(inside(name, other) for other in FORBIDDEN[part]), (module, name)


def test_no_circle_of_imports_or_types():
    """Raises `CycleError`, which names one, where modules import each other in a circle."""
    graph = {module: imports(module) for module in MODULES if module != "__init__"}
    assert set(TopologicalSorter(graph).static_order()) >= set(graph)


def test_the_rooms_stand_and_nothing_flat_belongs_into_one():
    assert {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()} == {
        *ROOMS, "lab",
    }  # fmt: skip
    assert {path.stem for path in LIBRARY.glob("*.py")} == CONTRACTS | ALIASES


def test_towers_are_not_loaded_where_nothing_is_tuned():
    program = """
import sys, torch, untuned
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
for build in untuned.AGD, untuned.Nero, untuned.Auto, lambda m: untuned.Optimizer(m, "adam"):
    opt = build(model)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    opt.step()
    opt.hyperparameters()
    opt.load_state_dict(opt.state_dict())
print([name for name in sys.modules if name.startswith("untuned.towers")])
untuned.Optimizer(model, "sgd / sgd").step()
print([name for name in sys.modules if name.startswith("untuned.towers.")] != [])
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:2] == ["[]", "True"]


def defined(path: Path) -> set[str]:
    """The public names that a module defines: classes, functions, constants."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                each = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {name.id for name in each if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_one_name_is_one_thing():
    homes = defaultdict(set)
    for module, path in MODULES.items():
        for name in defined(path):
            homes[name].add(module)
    several = {name: sorted(where) for name, where in homes.items() if len(where) > 1}
    # each optimizer by name is named as the rule that it runs
    expected = {
        name: [f"optimizer.{home}", f"rules.{name.lower()}"]
        for name, home in {"AGD": "named", "Nero": "named", "Auto": "auto"}.items()
    }
    assert several == expected
