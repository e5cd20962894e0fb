"""The shape of the house: who may import whom."""

import ast
import sys
from pathlib import Path

import untuned

LIBRARY = Path(untuned.__file__).parent


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def library_files() -> list[Path]:
    return [path for path in LIBRARY.rglob("*.py") if "lab" not in path.relative_to(LIBRARY).parts]


def test_the_library_depends_on_torch_alone():
    for path in library_files():
        roots = {name.split(".")[0] for name in imports(path)}
        # typing_extensions: for type checkers only
        outside = roots - set(sys.stdlib_module_names) - {"torch", "untuned", "typing_extensions"}
        assert not outside, f"{path.name} imports {outside}"


def test_the_library_never_imports_the_lab():
    for path in library_files():
        assert not any(name.startswith("untuned.lab") for name in imports(path)), path


def test_rules_know_nothing_of_optimizers_groups_or_execution():
    for path in [LIBRARY / "rule.py", *(LIBRARY / "rules").glob("*.py")]:
        for name in (
            "untuned.optimizer",
            "untuned.optimizer.param_groups",
            "untuned.execution.write",
            "torch.optim",
        ):
            assert not any(found.startswith(name) for found in imports(path)), path
