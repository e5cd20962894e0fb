"""Parameter groups, from a user's `params`; and their checks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from untuned._tensors import differentiable
from untuned.distributed.shards import is_sharded
from untuned.errors import DomainError, ParameterError, ParameterTypeError
from untuned.geometry.complex import Complex
from untuned.geometry.layer import Layer
from untuned.optimizer.bare import layer_of_bare
from untuned.optimizer.foreign import check_steps
from untuned.optimizer.group_layers import Layers, geometry_of
from untuned.optimizer.owner import Part, module_of, tensor_of
from untuned.rule import Rule

Group = dict[str, Any]


def name_of(group: Mapping[str, Any], index: int) -> str:
    """A parameter's name for messages; without one its position and shape."""
    if "param_names" in group:
        return repr(group["param_names"][index])
    return f"parameter {index} of its group, of shape {tuple(group['params'][index].shape)}"


def layer_for(layer: Layer | None, tensor: Tensor, rule: Any) -> Layer:
    """The geometry of one of a group's tensors, as `as_real` shows it.

    Args:
        layer: the tensor's; None: by its shape.
        tensor: the tensor.
        rule: that moves it.
    """
    shape = tuple(tensor.shape)
    own = (layer or rule.by_shape(shape)).of_shape(shape)
    return Complex(own) if tensor.is_complex() else own


def listed(params: Any) -> list[Any]:
    """`params` as torch's constructor takes it: a list of dicts, tensors or pairs."""
    if (module := module_of(params)) is not None:
        return [{"params": module}]
    if isinstance(params, Tensor | str) or not isinstance(params, Iterable):
        raise ParameterTypeError(
            f"params is a {type(params).__name__}: give a module, or a list of tensors, of "
            "(name, tensor) pairs or of dicts"
        )
    if isinstance(params, set | frozenset):
        raise ParameterTypeError("params is a set, whose order changes from run to run: use a list")
    return list(params)


def group_of(group: Mapping[str, Any], rule: Rule) -> Group:
    """A user's group with its tensors, and with their `layer`: one for all, or `Layers`."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise ParameterTypeError(f"a parameter group is a dict with 'params', not {group!r}")
    module = module_of(group["params"])
    if module is not None and "layer" not in group:
        return {**group, **_assigned(module, rule, group["params"])}
    given = group["params"]
    if module is not None:
        given = list(module.named_parameters())
    params = _once([given] if isinstance(given, Tensor) else listed(given))
    layer = group["layer"] if "layer" in group else layer_of_bare(params, rule)
    return {**group, "layer": layer, "params": params}


def _once(given: Iterable[Any]) -> list[Any]:
    """Tensors without those listed before, by layers that share them."""
    once: dict[int, Any] = {}
    for each in given:
        once.setdefault(id(tensor_of(each)), each)
    return list(once.values())


def named(group: Group, old: Sequence[Group]) -> Group:
    """The group, its tensors named if those of `old` groups are: torch wants all or none."""
    if not old:
        return group
    if "param_names" not in old[0]:
        return {**group, "params": tensors_of(group)}
    params = [
        given if _is_pair(given) else (f"param_groups[{len(old)}].{i}", given)
        for i, given in enumerate(group["params"])
    ]
    # torch takes the names from the tensors, and where there are none it sees none
    return {**group, "params": params} | ({} if params else {"param_names": []})


def _assigned(module: nn.Module, rule: Rule, params: Any) -> Group:
    """The named parameters of a module, or those of its parameters that are given, and geometry."""
    every: list[tuple[str, Tensor, Layer | None]] = list(rule.assign(module))
    if isinstance(params, Part):
        known = {each[1]: each for each in every}
        names = {tensor: name for name, tensor in module.named_parameters()}
        given = [each if _is_pair(each) else (names[each], each) for each in params.given]
        every = [(*pair, known.get(pair[1], (None,))[-1]) for pair in _once(given)]
    layers: list[Layer | None] = []
    for name, tensor, layer in every:
        if is_lazy(tensor):
            raise ParameterTypeError(f"{name!r} has no shape yet: run the model once first")
        layers.append(None if layer == rule.by_shape(tuple(tensor.shape)) else layer)
    tensors = [tensor for _, tensor, _ in every]
    by_shape = layers.count(None) == len(layers)
    return {
        "params": [(name, tensor) for name, tensor, _ in every],
        "layer": None if by_shape else Layers(tensors, layers),
    }


def check_group(new: Group, old: Sequence[Group], rule: Rule) -> None:
    """Validate a new group before it is added; errors name the parameter."""
    taken = {tensor for group in old for tensor in group["params"]}
    given, tensors = new["params"], tensors_of(new)
    every = [*taken, *tensors]
    device = getattr(every[0], "device", None) if every else None  # or it is no tensor
    names = [repr(g[0]) if _is_pair(g) else f"params[{i}]" for i, g in enumerate(given)]
    for name, tensor in zip(names, tensors, strict=True):
        _check_tensor(name, tensor)
        if tensor in taken:
            raise ParameterError(f"{name} is given twice: each tensor belongs to one group")
        if tensor.device != device:
            raise ParameterError(
                f"{name} is on {tensor.device}, and others on {device}: a step looks at all "
                "at once; give each device's parameters an optimizer of their own"
            )
    check_options(new, rule)
    if not isinstance(new["layer"], Layer | Layers | None):
        raise ParameterTypeError(
            f"layer={new['layer']!r}: give a layer of untuned.geometry, such as Dense(parts=3)"
        )
    for name, tensor, layer in zip(
        names, tensors, geometry_of(new | {"params": tensors}), strict=True
    ):
        _check_layer(layer, name, tensor, rule)
    rule.check_group(names, tensors)


def tensors_of(group: Group) -> list[Tensor]:
    """The tensors of a group, whether named or not."""
    return list(map(tensor_of, group["params"]))


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2


def _check_tensor(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise ParameterTypeError(f"{name} is a {type(tensor).__name__}, not a tensor")
    if is_lazy(tensor):
        raise ParameterTypeError(f"{name} has no shape yet: run the model once first")
    if not differentiable(tensor):
        raise ParameterTypeError(
            f"{name} is {tensor.dtype}: only floating-point and complex tensors can be trained; "
            "leave it out, or convert it"
        )
    if tensor.is_complex() and is_sharded(tensor):
        raise ParameterTypeError(
            f"{name} is {tensor.dtype} and sharded: replicate complex tensors, or shard a real "
            "parameter of which the module takes torch.view_as_complex"
        )
    if not (tensor.is_leaf or tensor.retains_grad):
        raise ParameterError(f"{name} is computed from other tensors: give those instead")


def check_options(group: Group, rule: Rule) -> None:
    """Validate a group's options, or the defaults; errors name the option."""
    rule.check(group)
    seed = group.get("seed", 0)
    if not (isinstance(seed, int) and 0 <= seed < 2**31):
        raise DomainError(f"seed={seed!r}: give an integer in [0, 2**31)")
    check_steps(group, rule)


def _check_layer(layer: Layer | None, name: str, tensor: Tensor, rule: Rule) -> None:
    shape = tuple(tensor.shape)
    try:
        own = (layer or rule.by_shape(shape)).of_shape(shape)
        own.blocks(shape)
        own.radius(shape if tensor.numel() else (1,) * tensor.ndim)
    except (ParameterError, IndexError, ZeroDivisionError) as error:
        raise ParameterError(f"{name} does not fit {layer}: {error}") from error
