"""The geometry of parameters: layers, and which module has which."""

from untuned.geometry.layers import (
    Bias,
    Conv,
    Dense,
    Embedding,
    Gain,
    Head,
    Layer,
    Rows,
    Stack,
    Vector,
    by_shape,
)

__all__ = [
    "Bias",
    "Conv",
    "Dense",
    "Embedding",
    "Gain",
    "Head",
    "Layer",
    "Rows",
    "Stack",
    "Vector",
    "by_shape",
]
