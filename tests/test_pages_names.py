"""What the pages name is there: commands, papers, files."""

import importlib.util
import re
import shlex

import pytest
import yaml
from torch.distributed.run import get_args_parser

import untuned
from support.pages import PAGES, ROOT, text_of
from untuned.lab.__main__ import PROGRAMS
from untuned.lab.bench.models import MODELS
from untuned.lab.programs.bench import bench_parser

TEXTS = [text_of(page) for page in PAGES] + [
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md")
]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for text in TEXTS
        for line in [
            *re.findall(r"`((?:untuned|python|make|torchrun) [^`\n]+)`", text),
            *re.findall(r"^((?:untuned|python|make|torchrun) .+)$", text, re.MULTILINE),
        ]
    }
)


SCRIPTS = {"train.py"}  # the reader's: what the page of several processes shows


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_exists(command):
    first, *rest = shlex.split(command)
    if first == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif first == "untuned":
        assert rest[0] in {*PROGRAMS, "--version"}
    elif first == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1])
    elif first == "python":
        assert (ROOT / rest[0]).exists()
    else:
        assert first == "torchrun"
        asked = get_args_parser().parse_args(rest)  # exits where it knows no such option
        if asked.module:
            assert importlib.util.find_spec(asked.training_script)
            assert asked.training_script_args[0] in PROGRAMS
        else:
            assert asked.training_script in SCRIPTS
    if first == "untuned" and rest[0] == "bench" and "WORKLOAD" not in command:
        asked = [word for word in rest[1:] if word != "..."]
        assert set(bench_parser().parse_args(asked).models) <= MODELS.keys()


def test_the_citation_names_this_version_and_the_three_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == untuned.__version__
    papers = [paper["url"].rpartition("/")[2] for paper in cited["references"]]
    assert papers == ["2304.05187", "2102.07227", "1909.13371"]
    for paper, rule in zip(papers[:2], (untuned.rules.AGD, untuned.rules.Nero), strict=True):
        module = __import__(rule.__module__, fromlist=["rule"])
        assert paper in module.__doc__


def test_the_house_of_the_design_page_stands():
    for name in re.findall(r"`([\w/]+\.py|\w+/)`", text_of("design")):
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "untuned")), name
