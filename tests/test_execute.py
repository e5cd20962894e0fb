"""How steps run: memory traffic, and that the executor changes no equation."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import untuned


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
        self.reads += [(func.overloadpacket.__name__, x.data_ptr()) for x in big]
        return result


def test_agd_reads_gradients_twice_and_weights_once_with_no_full_size_temporary():
    shapes = [(512, 512), (512, 512), (256, 64, 3, 3), (2**18,)]
    params = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    opt = untuned.AGD(params)
    opt.step()
    with Allocations() as seen:
        opt.step()
    assert seen.largest <= 2**16  # a convolution's squares, a few rows at a time
    views = ("view", "_unsafe_view", "split", "select")
    touched = [pointer for name, pointer in seen.reads if name not in views]
    for param in params:
        assert touched.count(param.grad.data_ptr()) == 2
        assert touched.count(param.data_ptr()) == 1


def test_importing_the_library_leaves_distributed_tensors_alone():
    """They cost half a second, and a single process has no use for them."""
    import subprocess
    import sys

    code = "import sys, untuned; sys.exit('torch.distributed.tensor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
