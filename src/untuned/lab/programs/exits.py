"""How programs end: messages and exit codes."""

import sys
from typing import NoReturn

from rich.console import Console

from untuned.errors import UntunedError
from untuned.lab.comparison.executors import StartError
from untuned.lab.comparison.lines import InUseError

KEPT = "Trials that have ended are kept; the same command goes on."
WRONG_INPUT = (UntunedError, InUseError, StartError, ValueError)


def stop(message: str, status: int) -> NoReturn:
    """Print to stderr and exit.

    Args:
        message: the reason.
        status: exit code.
    """
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)
    sys.exit(status)
