"""Alias of `untuned.geometry.layer`, for one release."""

from untuned.geometry.block_vector import matrices, neurons  # noqa: F401
from untuned.geometry.layer import *  # noqa: F403
from untuned.geometry.layer import BlockView as Blocks  # noqa: F401
