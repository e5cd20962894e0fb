"""The work of one cell, as the processes of an engine do it."""

from __future__ import annotations

from untuned.lab.cells import Key
from untuned.lab.config import Config
from untuned.lab.engines import Result


def config_of(key: Key) -> Config:
    """The training that a cell stands for."""
    return Config(**key._asdict())


def train_cell(key: Key) -> Result:
    """Train; an error becomes the result, so that it reads the same from every engine."""
    from untuned.lab.runs import run

    try:
        return {**run(config_of(key)).json(), **key._asdict()}
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        return {**key._asdict(), "status": "failed", "error": told}
