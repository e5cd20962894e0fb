"""What operations do behind the scenes: memory that they take, values that they ask for."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Records the largest tensor that any operation makes anew, and how often each runs."""

    def __init__(self):
        super().__init__()
        self.largest, self.reads = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.data_ptr() not in given:
                self.largest = max(self.largest, made.numel())
        big = [x for x in tree_leaves((args, kwargs)) if getattr(x, "numel", lambda: 0)() > 1000]
        self.reads += {(func.overloadpacket.__name__, x.data_ptr()) for x in big}
        return result


class HostReads(TorchDispatchMode):
    """Counts what would make the host wait for a device: `item`, `bool`, `tolist` and the like."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        reads = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        self.count += func in reads
        return func(*args, **(kwargs or {}))
