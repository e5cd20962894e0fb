"""The least memory traffic of a step, for weights that do not fit a cache.

Counted in passes: reads and writes of tensors of the weights' size. A step that is skipped whole if
any gradient is not finite reads all gradients first: untuned's rules read them twice, torch's once.
g = gradient, w = weight, m, v = moments.
"""

from typing import NamedTuple

from untuned.blockwise import Blockwise
from untuned.lab.baselines.methods import imported_path, method_of
from untuned.lab.baselines.table import BASELINES
from untuned.notation import tower_of
from untuned.rules import SGD, AdaGrad, Adam, RMSProp
from untuned.tower import Tower
from untuned.tunable import Tunable


class Traffic(NamedTuple):
    """The number of passes, and which they are."""

    passes: int
    why: str


THEIRS = {
    "sgd(fused)": Traffic(3, "read g, w; write w"),
    "adamw": Traffic(7, "read g, w, m, v; write w, m, v"),
    "sgdm": Traffic(5, "read g, w, m; write w, m"),
    "muon": Traffic(5, "read g, w, m; write w, m (AdamW, for the rest: 7); its products compute"),
    "soap": Traffic(7, "read g, w, m, v; write w, m, v; its products and two bases more compute"),
    "schedulefree": Traffic(7, "read g, v, both averages; write v, both averages"),
    "prodigy": Traffic(13, "read g, w, w0, m, v, s; write m, v, s; new d: read w, m, v; write w"),
}
# Of matrices; W: the iterate, of which the weight is the average
AVERAGED = Traffic(8, "read g; read g, w, m, W; write w, m, W; its products compute")
NOT_AVERAGED = Traffic(6, "read g; read g, w, m; write w, m; its products compute")
# Tensors of a weight's size in the state; momentum: one more
MOMENTS: dict[type[Tunable], int] = {SGD: 0, AdaGrad: 1, RMSProp: 1, Adam: 2}


def least_traffic(text: str) -> Traffic | None:
    """The least traffic of a step of an optimizer, by its text; None if it is not known."""
    method_of(text)  # raises, if it is none
    if imported_path(text):
        return None
    name = text.split("(")[0].strip().lower()
    if name in BASELINES:
        plain = name == "sgdm" and "momentum=0" in text.replace(" ", "")
        return THEIRS.get("sgd(fused)" if plain else name)
    if name == "auto":
        averages = "average=false" not in text.replace(" ", "").lower()
        return AVERAGED if averages else NOT_AVERAGED
    return _ours(tower_of(text))


def _ours(tower: Tower) -> Traffic | None:
    """Of untuned's rules and towers; r: the record, a tensor of a weight's size (kernels.py)."""
    rule, tuned = tower.floors[0].rule, len(tower.tuned(0))
    if isinstance(rule, Blockwise):
        moments = 0
    elif type(rule) in MOMENTS:
        moments = MOMENTS[type(rule)] + (isinstance(rule, SGD) and rule.momentum > 0)
    else:
        return None
    state = "".join(f", {name}" for name in "mv"[:moments])
    if not tuned:
        return Traffic(4 + 2 * moments, f"read g; read g, w{state}; write w{state}")
    if tuned == 1 or isinstance(rule, Blockwise):
        return Traffic(6 + 2 * moments, f"read g, r; read g, w{state}; write w{state}, r")
    # derivatives by several hyperparameters also read the state, and the replay updates it
    why = f"read g, r{state}; read g, r, w{state}; write w{state}, r"
    return Traffic(7 + 3 * moments, why)
