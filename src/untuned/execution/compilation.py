"""Compiled kernels; without a working compiler they run eagerly, with one warning."""

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from untuned.errors import SlowExecutionWarning
from untuned.execution.kernels import Kernels


@functools.cache
def _options() -> dict[str, Any]:
    """One pass over memory, whatever happens in it: nothing is stored only to be read again."""
    import torch._inductor.config as config

    wanted = ("realize_opcount_threshold", "realize_reads_threshold", "realize_acc_reads_threshold")
    return {name: 10**6 for name in wanted if hasattr(config, name)}


def _alone(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, with code of its own: torch counts how often each code is compiled, up to 8."""

    def run(*args: Any) -> Any:
        return kernel(*args)

    code = run.__code__.replace(co_name=f"run_{kernel.__name__}")
    return types.FunctionType(code, run.__globals__, code.co_name, closure=run.__closure__)


class Compiled:
    """A kernel, compiled at its first call; should that fail, the kernel itself."""

    warned: ClassVar[bool] = False  # once is enough, for all kernels

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self.plain = kernel
        self._run: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        try:
            if self._run is not None:
                return self._run(*args)
            with warnings.catch_warnings():  # what the compiler deprecates is not our user's affair
                warnings.simplefilter("ignore")
                fast = torch.compile(
                    _alone(self.plain), dynamic=True, fullgraph=True, options=_options()
                )
                result = fast(*args)
            self._run = fast
        except Exception as error:  # compilers fail in many ways, but before anything is written
            result = self.plain(*args)  # if it was the rule that failed, so it does here
            self._run = self.plain
            if not Compiled.warned:
                Compiled.warned = True
                reason = str(error).strip().splitlines() or [""]
                warnings.warn(
                    "torch.compile does not work here, so elementwise rules run one operation at a "
                    "time: the results are the same and take several times as long "
                    f"({type(error).__name__}: {reason[0][:200]}). It needs a C++ compiler on CPU, "
                    "Triton on CUDA; compile=False avoids the attempt",
                    SlowExecutionWarning,
                    stacklevel=1,
                )
        return result


@functools.lru_cache(maxsize=256)
def compiled(kernels: Kernels, name: str) -> Compiled:
    """A kernel by name, compiled; made once."""
    return Compiled(getattr(kernels, name))
