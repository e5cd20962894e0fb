"""The pictures of the idea pages: they can be drawn anew, and what they show is so."""

import importlib.util
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from support.pages import DOCS, ROOT

spec = importlib.util.spec_from_file_location("pictures", ROOT / "website" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_can_be_drawn_anew_and_follows_the_pages_colours(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    monkeypatch.setattr(pictures, "STEPS", 30)  # as many lines, shorter ones
    pictures.PICTURES[name]()
    drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    kept = (DOCS / "ideas" / f"{name}.svg").read_text(encoding="utf-8")
    for text in (drawn, kept):
        assert "prefers-color-scheme: dark" in text
        assert pictures.INK not in text
    trees = [ElementTree.fromstring(text) for text in (drawn, kept)]
    lines = [sum(element.tag.endswith("}path") for element in tree.iter()) for tree in trees]
    assert lines[0] == lines[1] > 10  # as many as on the page


@pytest.mark.parametrize("depth", [2, 8])
def test_the_bound_and_the_majorant_hold_as_the_page_derives_them(depth):
    etas = np.linspace(0, 1.5, 20)
    losses, changes, automatic = pictures.along(pictures.trained(depth, steps=50), etas)
    assert np.all(changes <= np.expm1(etas) + 1e-6)
    G = ((2 * math.exp(automatic) - 1) ** 2 - 1) / 4  # eta(G), solved for G
    majorant = losses[0] - G * etas + np.expm1(etas) ** 2 / 2
    assert np.all(losses <= majorant + 1e-6)
    slope = pictures.along(pictures.trained(depth, steps=50), [0, 1e-3])[0]
    assert (slope[0] - slope[1]) / 1e-3 == pytest.approx(G, rel=0.02)


def test_the_bound_is_attained_without_relus():
    etas = [0.01, 0.1, 1.0]
    attained = [(1 + eta / 32) ** 32 - 1 for eta in etas]
    assert pictures.grown(33, etas) == pytest.approx(attained, rel=1e-3)
