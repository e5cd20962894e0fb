"""Alias of `untuned.geometry.layer`, for one release."""

from untuned.geometry.layer import *  # noqa: F403
from untuned.geometry.layer import BlockView as Blocks  # noqa: F401
