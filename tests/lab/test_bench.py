"""What a step costs: networks as published, tables as measured."""

import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
)

from untuned.lab.bench import measure
from untuned.lab.bench.models import GPT2, MODELS
from untuned.lab.bench.steps import REFERENCES, Settings, step_costs
from untuned.lab.programs.bench import main

ROOT = Path(__file__).parents[2]
BRIEF = Settings(repeats=2, entries=2**12, eager=True)


def shapes(model):
    return sorted(tuple(param.shape) for param in model.parameters())


def test_resnet_50_has_the_tensors_of_the_published_one():
    with torch.device("meta"):
        ours = MODELS["resnet50"].build()
        theirs = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    assert shapes(ours) == shapes(theirs)
    assert len(shapes(ours)) == 161
    assert sum(p.numel() for p in ours.parameters()) == 25_557_032  # torchvision's, as published


def test_gpt2_small_has_the_tensors_of_the_published_one():
    with torch.device("meta"):
        ours, theirs = GPT2(), GPT2LMHeadModel(GPT2Config())
    transposed = [tuple(sorted(shape)) for shape in shapes(theirs)]  # its Conv1D is transposed
    assert sorted(tuple(sorted(shape)) for shape in shapes(ours)) == sorted(transposed)
    assert len(shapes(ours)) == 148
    assert sum(p.numel() for p in ours.parameters()) == 124_439_808


def test_gpt2_hears_the_past_alone():
    model = GPT2(64, 2, 32, 16)
    tokens = torch.randint(32, (2, 16))
    other = tokens.clone()
    other[:, 9:] = 31 - other[:, 9:]
    one, two = model(tokens), model(other)
    torch.testing.assert_close(one[:, :9], two[:, :9])
    assert not torch.allclose(one[:, 9:], two[:, 9:])


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("large", 10, 10 * 2**20), ("thousand", 1000, 500 * 65 * 64), ("block-1b", 240, 1.0e9)],
)
def test_models_are_as_large_as_they_say(name, tensors, parameters):
    with torch.device("meta"):
        model = MODELS[name].build()
    assert len(list(model.parameters())) == tensors
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)


def test_peaks_are_those_of_temporaries():
    held = torch.zeros(2**16)
    assert measure.peak(lambda: held.mul_(2), held.device) < 2**10
    two = measure.peak(lambda: (held * 2) + (held * 3), held.device)
    assert 2 * held.nbytes <= two <= 3 * held.nbytes


def test_turns_are_taken_in_order_and_end_at_the_limit():
    taken = []
    calls = {name: lambda name=name: taken.append(name) for name in "ab"}
    copy = measure.Copy(torch.device("cpu"), 2**10)
    times, bandwidth = measure.take_turns(calls, copy, repeats=50, limit=0.0)
    assert "".join(taken) == "ab" * (measure.WARM_UP_TURNS + 3)
    assert bandwidth > 0
    assert all(0 < t.low <= t.median <= t.high for t in times.values())


def test_ratios_and_shares_fit_the_times_that_they_are_of():
    texts = ("agd", "nero", "adam / sgd", "sgdm(momentum=0.9)")
    rows = step_costs("tiny", replace(BRIEF, optimizers=texts))
    sgd, adamw = rows[:2]
    assert [row.optimizer for row in rows[:2]] == list(REFERENCES)
    for row in rows:
        assert row.to_sgd == pytest.approx(row.ms / sgd.ms)
        assert row.to_adamw == pytest.approx(row.ms / adamw.ms)
        seconds = row.floor * row.parameters / (1e9 * row.bandwidth)
        assert row.reached == pytest.approx(1e3 * seconds / row.ms)
    assert sgd.state == 0
    assert adamw.state == pytest.approx(8, rel=0.02)  # two moments of 4 bytes; and step counts
    assert rows[2].state < 0.1
    assert rows[5].state == 4


def test_orthogonalising_optimizers_have_rows_too():
    """A layer (8, 8) and a vector (8,): a momentum each; soap has two moments and two factors."""
    texts = ("auto(average=False)", "muon", "soap")
    rows = {row.optimizer: row for row in step_costs("tiny", replace(BRIEF, optimizers=texts))}
    assert set(rows) == {*REFERENCES, *texts}
    entries = 3 * 72
    auto = 4 * (3 * 72 + 64 + 3 * 8)  # all have a momentum; the head and vectors mean squares
    assert auto <= rows["auto(average=False)"].state * entries <= auto + 6 * 40
    assert rows["muon"].state < rows["soap"].state
    assert all(row.ms > 0 and row.reached is None for row in rows.values() if row.floor is None)


@pytest.mark.parametrize("height", [1, 2, 5])
def test_plain_towers_take_our_steps(height):
    script = runpy.run_path(str(ROOT / "benchmarks/floors.py"))
    x, y = torch.rand(64, 784), torch.randint(10, (64,))
    steps = [script[kind](height, x, y) for kind in ("ours", "plain")]
    for _ in range(6):
        ours, plain = ([weight.detach().clone() for weight in step()] for step in steps)
        torch.testing.assert_close(ours, plain)
    initial = list(script["network"]().parameters())
    assert all(not torch.allclose(a, b) for a, b in zip(ours, initial, strict=True))


def test_a_floors_time_is_shown_beside_plain_codes(capsys):
    runpy.run_path(str(ROOT / "benchmarks/floors.py"))["main"](2)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    rows = {line[0]: line[1:] for line in lines if line[0] in ("ours", "plain")}
    assert rows.keys() == {"ours", "plain"}
    assert all(float(ms) > 0 for row in rows.values() for ms in row[:5])


def test_whole_training_steps_are_timed_in_turns(tmp_path):
    """Two optimizers' networks take the steps that they would take alone."""
    script = runpy.run_path(str(ROOT / "benchmarks/training_step.py"))
    torch.manual_seed(0)
    model, loss = script["chain"]("8x3x5")
    assert shapes(model) == sorted([(8, 8), (8,)] * 3)
    contenders = [script["Contender"](text, model, loss) for text in ("adamw", "sgdm(lr=0.1)")]
    for _ in range(3):
        assert all(min(contender.seconds()) > 0 for contender in contenders)
    opt = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        opt.zero_grad()
        loss(model).backward()
        opt.step()
    torch.testing.assert_close(list(contenders[0].model.parameters()), list(model.parameters()))
    path = tmp_path / "table.md"
    options = script["Options"](chains=("8x2x4",), optimizers=("auto",), seconds=0.0, output=path)
    script["main"](options)
    line = path.read_text().splitlines()[-1].strip("| ").split(" | ")
    assert line[0] == "8x2x4"
    assert len(line) == 5
    assert all(float(number) > 0 for number in line[1:])


def test_the_program_prints_and_keeps_its_table(tmp_path, capsys):
    path = tmp_path / "table.md"
    main(["tiny", "--optimizers", "agd", "adam / sgd", "--repeats", "1", "--output", str(path)])
    shown, kept = capsys.readouterr().out, path.read_text()
    for name in ("SGD(fused)", "AdamW(fused)", "agd", "adam / sgd"):
        assert name in shown
        assert f"| {name} |" in kept
    lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["parameters"] for line in lines] == [3 * 72] * 4


@pytest.mark.parametrize(
    "asked", [["hugo"], ["tiny", "--optimizers", "hugo"], ["block-1b"]], ids=str
)
def test_what_there_is_not_is_an_error(asked, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*asked, "--repeats", "1"])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.integration
def test_scaling_has_points_on_all_axes_and_a_picture(tmp_path, monkeypatch):
    import matplotlib.image

    from untuned.lab.bench import ranks, scaling

    monkeypatch.setattr(ranks, "RANKS", (2,))
    monkeypatch.setattr(scaling, "WIDTHS", {"parameters": (8, 16), "tensors": (32, 16)})
    monkeypatch.setattr(scaling, "TOTAL", 2**12)
    found = scaling.timings(replace(BRIEF, optimizers=("agd",)))
    at = {(p.axis, p.x) for p in found if p.optimizer == "agd"}
    assert at == {("parameters", 256), ("parameters", 1024), ("tensors", 4), ("tensors", 16)}
    towers = [p.x for p in found if p.optimizer == "sgd / ... / sgd"]
    assert towers == [1, 2, 3, 4, 5]
    shared = {(p.x, p.optimizer) for p in found if p.axis == "ranks" and p.ms > 0}
    ways = [f"{who}, {way}" for who in ("agd", "AdamW(fused)") for way in ("DDP", "FSDP2")]
    assert shared == {(2, way) for way in ways}
    scaling.draw_scaling(found, tmp_path / "scaling.png")
    assert matplotlib.image.imread(tmp_path / "scaling.png").std() > 0.01  # not blank


BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        gone = "lightning matplotlib prodigyopt pytorch_optimizer rich schedulefree "
        gone += "transformers tyro"
        if name.partition(".")[0] in gone.split():
            raise ModuleNotFoundError(f"no {name}", name=name)
sys.meta_path.insert(0, Missing())
import runpy
sys.argv = ["gpu.py", *sys.argv[1:]]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_gpus_benchmark_needs_torch_alone(device):
    command = [sys.executable, "-c", BARE, "--device", device, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "prodigyopt is missing" in done.stdout
    assert done.stdout.count("| agd |") == 3
    assert "training step" in done.stdout
    if device == "cuda":
        ours = re.findall(r"^\| (?:agd|nero|adam / sgd) \|.*$", done.stdout, re.MULTILINE)
        assert all("| no |" in row for row in ours[:-3])  # the host never waits


def test_what_fails_on_a_gpu_is_told_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    def refused(*args):
        raise RuntimeError("no kernel image is available")

    path = tmp_path / "gpu.md"
    monkeypatch.setattr("untuned.lab.bench.steps._with_gradients", refused)
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "--quick", "--device", "cpu", "--output", str(path)]
    )
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "benchmarks/gpu.py"), run_name="__main__")
    assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert shown.count("RuntimeError: no kernel image is available") == 2
    assert "training step of GPT-2" in shown
    assert "small failed" in path.read_text()
