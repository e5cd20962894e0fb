"""Kernels compiled, where there is a compiler; run as they are, and said so once, where not."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from untuned.errors import SlowExecutionWarning
from untuned.kernels import Kernels


@functools.cache
def _options() -> dict[str, Any]:
    """One pass over memory, whatever happens in it: nothing is stored only to be read again."""
    import torch._inductor.config as config

    wanted = ("realize_opcount_threshold", "realize_reads_threshold", "realize_acc_reads_threshold")
    return {name: 10**6 for name in wanted if hasattr(config, name)}


class Compiled:
    """A kernel, compiled at its first call; should that fail, the kernel itself."""

    broken = False  # for all: what keeps one from compiling keeps the others, too

    def __init__(self, kernel: Any) -> None:
        self.plain = kernel
        self._fast: Any = None

    def __call__(self, *args: Any) -> Any:
        if Compiled.broken or torch.compiler.is_compiling():
            return self.plain(*args)
        try:
            if self._fast is None:
                self._fast = torch.compile(
                    self.plain, dynamic=True, fullgraph=True, options=_options()
                )
            return self._fast(*args)
        except Exception as error:  # compilers fail in many ways, but before anything is written
            result = self.plain(*args)  # if it was the rule that failed, so it does here
            Compiled.broken = True
            reason = str(error).strip().splitlines() or [""]
            warnings.warn(
                "torch.compile does not work here, so elementwise rules run one operation at a "
                "time: the results are the same and take several times as long "
                f"({type(error).__name__}: {reason[0][:200]}). It needs a C++ compiler on CPU, "
                "Triton on CUDA; compile=False avoids the attempt",
                SlowExecutionWarning,
                stacklevel=2,
            )
            return result


@functools.lru_cache(maxsize=256)
def compiled(kernels: Kernels, name: str) -> Compiled:
    """A kernel by name, compiled; made once."""
    return Compiled(getattr(kernels, name))
