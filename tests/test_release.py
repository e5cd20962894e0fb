"""What is released: the wheel alone trains, with torch and nothing else; it says what it needs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from support.pages import ROOT, blocks_of

TRAINS = """
import importlib.util, pathlib, sys, torch

model = torch.nn.Linear(4, 2)
{example}

assert pathlib.Path(untuned.__file__).is_relative_to(sys.prefix), untuned.__file__
assert not any(map(importlib.util.find_spec, ("numpy", "sklearn", "lightning", "pytest")))
torch.manual_seed(0)
images, start = torch.rand(256, 64), None
labels = images[:, :10].argmax(1)
for rule in ("agd", "nero", "adam / adam(lr=0.05)"):
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    opt, losses = untuned.Optimizer(model, rule), []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0], (rule, losses[0], losses[-1])
"""


def needed(name, found=None):
    """A distribution, and all that it needs here."""
    found = {} if found is None else found
    if name not in found:
        found[name] = distribution(name)
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


def link_torch(packages: Path) -> None:
    """Put torch and what it needs, as installed here, into another environment's packages."""
    for each in needed("torch").values():
        tops = {file.parts[0] for file in each.files or [] if file.parts[0] not in ("..", "bin")}
        for top in tops - {"__pycache__"}:
            target = Path(each.locate_file(top)).resolve()
            if target.exists() and not (packages / top).exists():
                (packages / top).symlink_to(target)


def imported(package: str) -> set[str]:
    """What a package imports that neither Python nor it itself has; its lab asks for an extra."""
    files = [*(ROOT / "src" / package).rglob("*.py")]
    trees = [ast.parse(file.read_text("utf-8")) for file in files if "lab" not in file.parts]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {package}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist, as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.integration
def test_the_wheel_alone_trains_where_there_is_only_torch(built, tmp_path):
    venv.create(tmp_path / "clean")
    python = tmp_path / "clean" / "bin" / "python"
    (packages,) = (tmp_path / "clean").glob("lib/python*/site-packages")
    link_torch(packages)
    install = ["pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([sys.executable, "-m", *install, str(built[0])], check=True)
    (example,) = blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))
    script = TRAINS.format(example=example)
    done = subprocess.run([str(python), "-I", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_metadata_say_what_is_supported(built):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        metadata = Parser().parsestr(wheel.read(name).decode())
    minors = re.findall(r"Python :: 3\.(\d+)", str(metadata.get_all("Classifier")))
    supported = SpecifierSet(metadata["Requires-Python"])
    oldest = int(minors[0])
    assert [int(minor) for minor in minors] == list(range(oldest, oldest + len(minors)))
    assert f"3.{oldest}" in supported
    assert f"3.{oldest - 1}" not in supported
    assert str(sys.version_info.minor) in minors  # where these tests run
    needs = map(Requirement, metadata.get_all("Requires-Dist"))
    always = [need for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    brought = {name.replace("-", "_") for need in always for name in needed(need.name)}
    assert {need.name for need in always} <= imported("untuned") <= brought
    assert all(need.specifier.contains(torch.__version__, prereleases=True) for need in always)


def test_the_files_are_those_of_the_library(built):
    with zipfile.ZipFile(built[0]) as wheel:
        inside = set(wheel.namelist())
    assert {"untuned/py.typed", "untuned/lab/report/page.html"} <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == {"untuned"}
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "CITATION.cff",
        "mkdocs.yml",
        "tests/support/pages.py",
    } <= names


@pytest.mark.integration
def test_the_import_loads_nothing_but_the_library_beside_torch():
    script = (
        "import sys, torch; before = set(sys.modules); import untuned; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert out.stdout.split() == ["untuned"], out.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
def test_each_command_sets_up_what_it_needs_in_either_order(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").mkdir()

    def installs(target):
        """The extras that `make` would install first, in order."""
        done = subprocess.run(
            ["make", "-n", target], cwd=tmp_path, env={"PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return re.findall(r"--editable '\.\[(.+)\]'", done.stdout)

    everything = "lab,compare,atari,docs"
    assert installs("demo") == ["lab"]
    assert installs("test") == installs("docs") == ["lab", everything]
    (tmp_path / ".venv" / ".ready").touch()
    assert installs("demo") == []
    assert installs("test") == [everything]
    (tmp_path / ".venv" / ".all").touch()
    assert installs("demo") == installs("test") == []
    (tmp_path / "pyproject.toml").touch()
    assert installs("demo") == ["lab"]
    assert installs("test") == ["lab", everything]
