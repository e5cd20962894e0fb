"""The geometry of parameters: layers, and which module has which."""

from untuned.geometry.assignment import by_module, by_shape, layers_of
from untuned.geometry.layer import BlockView, Layer
from untuned.geometry.layers import Bias, Conv, Dense, Embedding, Gain, Head, Rows, Stack, Vector
from untuned.geometry.stacked import Stacked

__all__ = [
    "Bias", "BlockView", "Conv", "Dense", "Embedding", "Gain", "Head", "Layer", "Rows", "Stack",
    "Stacked", "Vector", "by_module", "by_shape", "layers_of",
]  # fmt: skip
