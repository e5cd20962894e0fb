"""Workloads and optimizers of the user's own, imported from the folder where the lab is started."""

import itertools
import json
import sys

import pytest
import torch
import torch.nn.functional as F

from support.pages import code_of
from untuned.errors import UnknownHyperparameterError
from untuned.lab.baselines.methods import method_of
from untuned.lab.bench.memory_traffic import least_traffic
from untuned.lab.comparison.contestants import REFERENCE, contestant_of
from untuned.lab.errors import ConfigError, UnknownNameError
from untuned.lab.programs import compare, report, train
from untuned.lab.workloads.registry import find

OPTIMIZERS = """
import torch
from untuned.rules import SGD

class Mine(torch.optim.SGD):
    pass

class Rule(SGD):
    pass

def factory(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)

def nothing(model):
    return None

number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of a user, in which the lab is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in ("mymodule", "mytraining", "myoptimizers"):
        sys.modules.pop(name, None)
    find.__globals__["_imported_workload"].cache_clear()


@pytest.fixture
def mymodule(here):
    """What the page shows as `mymodule.py` and `mytraining.py`."""
    module, training = code_of("lab")
    (here / "mymodule.py").write_text(module)
    (here / "mytraining.py").write_text(training)


@pytest.fixture
def myoptimizers(here):
    (here / "myoptimizers.py").write_text(OPTIMIZERS)


@pytest.mark.usefixtures("mymodule", "myoptimizers")
def test_workloads_are_compared_in_processes_of_their_own(here):
    optimizers = ["sgdm(lr=0.05)", "myoptimizers:factory(rate=0.05)"]
    workloads = ["mymodule:workload", "mytraining:workload"]
    asked = ["--workloads", *workloads, "--steps", "20", "--seeds", "1", "--jobs", "1"]
    with pytest.raises(SystemExit) as ended:
        compare.main([*asked, "--optimizers", *optimizers])
    assert ended.value.code == 0
    lines = (here / "runs/compare/cells.jsonl").read_text().splitlines()
    curves = {(t["workload"], t["optimizer"]): t["curve"] for t in map(json.loads, lines)}
    assert set(curves) == set(itertools.product(workloads, optimizers))
    for workload in workloads:
        torchs, own = (curves[workload, optimizer] for optimizer in optimizers)
        assert own == torchs
        assert own["valid_loss"][-1] < 0.9 * own["valid_loss"][0]
    scope = {}
    exec(code_of("lab")[0], scope)
    own = curves["mymodule:workload", "sgdm(lr=0.05)"]
    torch.manual_seed(1)
    network, valid = scope["network"](), scope["workload"]().at("small").valid
    start = F.cross_entropy(network(valid.inputs), valid.targets).item()
    assert own["valid_loss"][0] == pytest.approx(start, rel=1e-4)
    page = (here / "runs/compare/report.html").read_text(encoding="utf-8")
    assert all(f'id="{workload}"' in page for workload in workloads)


@pytest.mark.usefixtures("mymodule")
def test_a_run_has_a_folder_whose_name_any_system_takes(here, capsys):
    train.main(["mymodule:workload", "--steps", "3", "--accelerator", "cpu"])
    result = json.loads((here / "runs/mymodule-workload/auto-seed0/result.json").read_text())
    assert result["command"].startswith("untuned train mymodule:workload --optimizer auto")
    assert "after 3 steps" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mymodul:workload", r"no module 'mymodul' in \S+, .* start the command in the folder"),
        ("mymodule:worklod", "the nearest: mymodule:workload"),
        ("mymodule:network", "is of type Sequential: name a Workload"),
        ("mymodule:", "'mymodule:' is unknown"),
    ],
)
@pytest.mark.usefixtures("mymodule")
def test_what_is_no_workload_is_told_of(name, says):
    with pytest.raises((UnknownNameError, ConfigError), match=says):
        find(name)


def test_what_a_module_lacks_itself_is_named(here):
    (here / "mymodule.py").write_text("import not_installed_anywhere")
    with pytest.raises(UnknownNameError, match="no module 'not_installed_anywhere'"):
        find("mymodule:workload")


@pytest.mark.usefixtures("mymodule")
def test_a_report_elsewhere_says_where_its_workloads_are(here, monkeypatch, capsys):
    folder = here / "runs"
    folder.mkdir()
    tasks = [{"workload": "mymodule:workload", "size": "small", "steps": 3}]
    saved = {"contestants": ["mymodule:factory"], "tasks": tasks, "seeds": 1, "command": ""}
    (folder / "compare.json").write_text(json.dumps(saved))
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(SystemExit, match="2"):
        report.main([str(folder)])
    assert "start the command in the folder of the module" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("torch.optim.AdamW(lr=0.003)", "adamw(lr=0.003)"),
        ("torch.optim:AdamW", "adamw"),
        ("myoptimizers:Mine(lr=0.1, momentum=0.9)", "sgdm"),
        ("myoptimizers.factory(rate=0.1)", "sgdm"),
        ("myoptimizers:Rule(lr=0.1)", "sgd(lr=0.1)"),
    ],
)
@pytest.mark.usefixtures("myoptimizers")
def test_an_imported_optimizer_trains_as_its_twin_of_the_table(text, twin, go):
    assert go(optimizer=text, steps=4).curve == go(optimizer=twin, steps=4).curve


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("torch.optim.RAdm", r"the nearest: .*torch\.optim:RAdam"),
        ("torch.optim.RAdam(rate=0.1)", "unexpected keyword argument 'rate'; there are: lr"),
        ("torch.optim.RAdam(0.1)", "settings are written as in"),
        ("myoptimizers:factory", "missing a required argument: 'rate'"),
        ("myoptimizers:number", "is of type int: name a class"),
        ("myoptimizers:Rule(rate=0.1)", "has no hyperparameter 'rate'"),
        ("nowhere:factory", "no module 'nowhere'"),
    ],
)
@pytest.mark.usefixtures("myoptimizers")
def test_what_is_no_optimizer_is_told_of(text, says):
    errors = (UnknownNameError, ConfigError, UnknownHyperparameterError)
    with pytest.raises(errors, match=says):
        method_of(text)


@pytest.mark.usefixtures("myoptimizers")
def test_a_function_that_makes_no_optimizer_is_told_of():
    with pytest.raises(ConfigError, match=r"makes NoneType: return a torch\.optim\.Optimizer"):
        method_of("myoptimizers:nothing").build(torch.nn.Linear(2, 2), 1)


def test_any_optimizer_is_tuned_in_the_grid_of_the_reference():
    tuned, reference = contestant_of("torch.optim.NAdam(lr={lr})"), contestant_of(REFERENCE)
    assert tuned.tuned
    for mine, theirs in zip(tuned.candidates(-8, -2), reference.candidates(-8, -2), strict=True):
        assert mine.schedule == theirs.schedule
        assert mine.optimizer == theirs.optimizer.replace("adamw", "torch.optim.NAdam")
    with pytest.raises(UnknownNameError, match="unexpected keyword argument 'rate'"):
        contestant_of("torch.optim.NAdam(rate={lr})")


def test_what_an_imported_optimizer_moves_is_not_known():
    assert least_traffic("torch.optim.RAdam(lr=0.01)") is None
