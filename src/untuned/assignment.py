"""Alias of `untuned.geometry.assignment`, for one release."""

from untuned.geometry.assignment import *  # noqa: F403
