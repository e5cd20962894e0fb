"""Alias of `untuned.tower`, for one release."""

from untuned.tower import *  # noqa: F403
