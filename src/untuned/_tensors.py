"""Dtypes to compute in, cached constants, host reads, derivatives."""

import ctypes
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")

DOUBLE = {torch.float64, torch.complex128}


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Compute dtype: float64 for float64 and complex128 tensors, float32 for all others."""
    return torch.float64 if tensor.dtype in DOUBLE else torch.float32


def shared_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Dtype of a number that several tensors share: float64 if that is any one's compute dtype."""
    for tensor in tensors:
        if tensor.dtype in DOUBLE:
            return torch.float64
    return torch.float32


def cached(size: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """`functools.lru_cache` that `torch.compile` steps around: it would warn, and trace anyway."""

    def decorate(make: Callable[..., Made]) -> Callable[..., Made]:
        look_up = functools.lru_cache(maxsize=size)(make)

        @functools.wraps(make)
        def found(*args: object) -> Made:
            return make(*args) if torch.compiler.is_compiling() else look_up(*args)

        return found

    return decorate


class TensorCache(dict[Any, Tensor]):
    """Constant tensors by key. Under FakeTensorMode nothing is cached: each call makes anew."""

    def found(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`, from `make()` the first time."""
        if type(torch.empty(0)) is not Tensor:
            return make()
        if key not in self:
            self[key] = make()
        return self[key]


_integers = TensorCache()


def integers(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Integers as an int64 tensor (numbers,) on a device, copied there once."""
    key = (tuple(numbers), device)
    return _integers.found(key, lambda: torch.tensor(key[0], dtype=torch.int64).to(device))


def peek(flag: Tensor) -> bool:
    """The value of a 0-d bool in host memory, read without an operation: nothing synchronises."""
    return ctypes.c_bool.from_address(flag.data_ptr()).value


_FLOATS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


def as_number(value: Any) -> Any:
    """A 0-d tensor that the host may read as a float, read as `peek` reads; all else as it is."""
    if not readable(value):
        return value
    kind = _FLOATS.get(value.dtype) if value.ndim == 0 else None
    return value if kind is None else kind.from_address(value.data_ptr()).value


def known_number(value: Any) -> float | None:
    """A number that the host can read; None: it is on a device, or none at all."""
    value = as_number(value)
    return float(value) if isinstance(value, int | float) else None


def derivatives(
    function: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Tensor, ...]
) -> tuple[list[Tensor], Tensor]:
    """Gradients of a function's first output, 0-d, by its inputs; and its second output."""
    if torch.compiler.is_compiling():
        each, rest = torch.func.grad(function, argnums=tuple(range(len(inputs))), has_aux=True)(
            *inputs
        )
        return list(each), rest
    with torch.enable_grad():  # half of torch.func's time, where nothing fuses it
        inputs = tuple([each.detach().requires_grad_() for each in inputs])
        result, rest = function(*inputs)
        found = torch.autograd.grad(result, inputs, materialize_grads=True)
    return list(found), rest.detach()


def pull_back(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    cotangents: tuple[Tensor, ...],
) -> list[Tensor]:
    """Vector-Jacobian products: derivatives of <cotangents, function(*inputs)> by the inputs."""
    if torch.compiler.is_compiling():
        product: Any = torch.func.vjp(function, *inputs)[1]
        return list(product(cotangents))
    with torch.enable_grad():
        inputs = tuple([each.detach().requires_grad_() for each in inputs])
        outputs = function(*inputs)
        return list(torch.autograd.grad(outputs, inputs, cotangents, materialize_grads=True))


def differentiable(tensor: Tensor) -> bool:
    """Whether a tensor is of a dtype that autograd differentiates: floating-point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


def readable(value: Any) -> bool:
    """Whether it is a tensor that the host can read without a synchronisation or a graph break."""
    plain = type(value) is Tensor and value.device.type == "cpu"
    return plain and not torch.compiler.is_compiling()
