"""How steps run: memory traffic, and that the executor changes no equation."""

import torch

import untuned
from support.spies import Allocations


def test_agd_reads_gradients_twice_and_weights_once_with_no_full_size_temporary():
    shapes = [(512, 512), (512, 512), (256, 128, 3, 3), (2**18,)]
    params = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    opt = untuned.AGD(params)
    opt.step()
    with Allocations() as seen:
        opt.step()
    assert seen.largest <= 2**17  # a convolution's squares, a few rows at a time
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
