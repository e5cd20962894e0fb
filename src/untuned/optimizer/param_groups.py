"""Parameter groups, each of one geometry, from a user's `params`; and their checks."""

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
from untuned.optimizer.owner import module_of
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
        layer: the group's; None: each by its shape.
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


def groups_of(group: Mapping[str, Any], rule: Rule) -> list[Group]:
    """A user's group as groups of tensors with one `layer` each (None: each by its shape)."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise ParameterTypeError(f"a parameter group is a dict with 'params', not {group!r}")
    module = module_of(group["params"])
    if module is not None and "layer" not in group:
        return [
            {**_renamed(group, layer), "params": pairs, "layer": layer}
            for layer, pairs in _by_layer(module, rule).items()
        ]
    params = group["params"] if module is None else list(module.named_parameters())
    tensors = [params] if isinstance(params, Tensor) else listed(params)
    once: dict[int, Any] = {}  # a tensor listed twice, by layers that share it, is one parameter
    for given in tensors:
        once.setdefault(id(given[1] if _is_pair(given) else given), given)
    params = list(once.values())
    layer = group["layer"] if "layer" in group else layer_of_bare(params, rule)
    return [{**group, "layer": layer, "params": params}]


def _renamed(group: Mapping[str, Any], layer: Layer | None) -> Mapping[str, Any]:
    """The group, its "name" extended by the layer: monitors want no name twice."""
    name = group.get("name")
    return group if layer is None or name is None else {**group, "name": f"{name}, {layer}"}


def named(groups: Sequence[Group], old: Sequence[Group]) -> list[Group]:
    """The groups, their tensors named if those of `old` groups are: torch wants all or none."""
    if not old:
        return list(groups)
    wanted = "param_names" in old[0]

    def alike(place: int, group: Group) -> Group:
        params = [
            pair if isinstance(pair, tuple) else (f"param_groups[{place}].{i}", pair)
            for i, pair in enumerate(group["params"])
        ]
        if not wanted:
            return {**group, "params": [tensor for _, tensor in params]}
        # torch takes the names from the tensors, and where there are none it sees none
        return {**group, "params": params} | ({} if params else {"param_names": []})

    return [alike(place, group) for place, group in enumerate(groups, start=len(old))]


def _by_layer(module: nn.Module, rule: Rule) -> dict[Layer | None, list[tuple[str, Tensor]]]:
    """The named parameters of a module by geometry; None: by shape."""
    parts: dict[Layer | None, list[tuple[str, Tensor]]] = {None: []}
    for name, tensor, layer in rule.assign(module):
        if is_lazy(tensor):
            raise ParameterTypeError(f"{name!r} has no shape yet: run the model once first")
        told = layer == rule.by_shape(tuple(tensor.shape))
        parts.setdefault(None if told else layer, []).append((name, tensor))
    return {layer: pairs for layer, pairs in parts.items() if pairs} or {None: []}


def check_groups(new: Sequence[Group], old: Sequence[Group], rule: Rule) -> None:
    """Validate new groups before any is added; errors name the parameter."""
    taken = {tensor for group in old for tensor in group["params"]}
    every = [*taken, *tensors_of(new)]
    device = getattr(every[0], "device", None) if every else None  # or it is no tensor
    for group in new:
        given, tensors = group["params"], tensors_of([group])
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
        check_options(group, rule)
        _check_layer(group["layer"], names, tensors, rule)
        rule.check_group(names, tensors)


def tensors_of(groups: Iterable[Group]) -> list[Tensor]:
    """The tensors of groups, whether named or not."""
    return [pair[1] if _is_pair(pair) else pair for group in groups for pair in group["params"]]


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


def _check_layer(
    layer: Layer | None, names: Sequence[str], tensors: Sequence[Tensor], rule: Rule
) -> None:
    if not isinstance(layer, Layer | None):
        raise ParameterTypeError(
            f"layer={layer!r}: give a layer of untuned.geometry, such as Dense(parts=3)"
        )
    for name, tensor in zip(names, tensors, strict=True):
        shape = tuple(tensor.shape)
        try:
            own = (layer or rule.by_shape(shape)).of_shape(shape)
            own.blocks(shape)
            own.radius(shape if tensor.numel() else (1,) * tensor.ndim)
        except (ParameterError, IndexError, ZeroDivisionError) as error:
            raise ParameterError(f"{name} does not fit {layer}: {error}") from error
