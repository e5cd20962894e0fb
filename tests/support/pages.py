"""The pages, run as they stand, and the plain loops that their trainers replace."""

import ast
import re
from pathlib import Path

import torch.nn.functional as F

import untuned

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))

RULES = ["auto", "agd", "nero", "adam / sgd(lr=0.01)", "agd / sgd(lr=0.1)"]


def text_of(page):
    """A page by its name without ending, such as how-to/precision."""
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks_of(text):
    """The blocks of Python in a text that are there to be run."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def code_of(page):
    """The blocks of Python of a page."""
    return blocks_of(text_of(page))


def run_page(page, blocks=slice(None), **given):
    """Run blocks of Python of a page, or all, in one scope, and return that scope."""
    scope = {"__name__": page} | given
    for block in code_of(page)[blocks]:
        exec(block, scope)
    return scope


def pages_run_by(file):
    """The pages whose code the tests of a file run, by the syntax tree of the file."""
    calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if is_run(node)]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def is_run(node):
    """Whether this part of a syntax tree calls `run_page` or `code_of`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("run_page", "code_of")
    )


def optimizer(model, rule, **options):
    """As a user builds it."""
    build = untuned.Auto if rule == "auto" else untuned.Optimizer
    return build(model, **({} if rule == "auto" else {"rule": rule}), **options)


def train_plainly(model, batches, rule="agd", chunks=1, **options):
    """What a trainer replaces: a step for each `chunks` batches; returns the optimizer, losses."""
    opt, losses = optimizer(model, rule, **options), []
    for number, (images, labels) in enumerate(batches, start=1):
        loss = F.cross_entropy(model(images), labels)
        (loss / chunks).backward()
        losses.append(loss.item())
        if number % chunks == 0:
            opt.step()
            opt.zero_grad()
    return opt, losses


def fallen(losses, share):
    """Whether the last tenth of the losses is, on average, below a `share` of the first one."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) < share * losses[0]
