"""The papers' initialisation."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from untuned.distributed.shards import fill_sharded_, is_sharded, local
from untuned.errors import ParameterTypeError
from untuned.geometry.assignment import by_module
from untuned.geometry.layer import Layer


@torch.no_grad()
def initialise_(model: nn.Module, generator: torch.Generator | None = None) -> list[str]:
    """Initialise a model in place, as AGD's theory wants it (arXiv:2304.05187, section 4).

    Matrices, gates and the submatrices of convolutions become orthogonal, scaled by their
    radius (`untuned.geometry` has the table); rows of embeddings a random direction of norm
    sqrt(width); biases zero, gains of norms one; the running statistics of norms start anew.

    Args:
        model: on any device, in any floating-point type; a model made on the meta device
            first needs memory: `model.to_empty(device=...)`. Parameters that are spread over
            processes become what the first process makes of them.
        generator: where the random numbers come from, on the model's device.

    Returns:
        The names of the parameters left as they were: frozen ones, and those that no known
        type of module owns (`untuned.geometry.assignment.layers_of`) and whose shape is not a
        matrix's.

    Raises:
        ParameterTypeError: a parameter has no memory behind it yet; nothing has changed then.
    """
    assigned = list(by_module(model))
    for name, tensor, _ in assigned:
        if tensor.is_meta or is_lazy(tensor):
            mend = "run the model once" if is_lazy(tensor) else "call model.to_empty(device=...)"
            raise ParameterTypeError(f"{name!r} has no memory behind it yet: {mend} first")
    for module in model.modules():
        trains = all(tensor.requires_grad for tensor in module.parameters(recurse=False))
        if isinstance(module, _NormBase) and trains:
            module.reset_running_stats()
    return [
        name
        for name, tensor, layer in assigned
        if tensor.numel() and not (tensor.requires_grad and _initialise_(tensor, layer, generator))
    ]


def _initialise_(tensor: Tensor, layer: Layer, generator: torch.Generator | None) -> bool:
    """Initialise a tensor; one that is spread over processes, by way of the whole of it."""
    if not is_sharded(tensor):
        return layer.initialise_(tensor, generator)
    whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=local(tensor).device)
    known = layer.initialise_(whole, generator)
    if known:
        fill_sharded_(tensor, whole)
    return known
