"""The page on weights of 16 bits runs, and they learn."""

import pytest
import torch
import torch.nn.functional as F

from support.networks import resnet
from support.pages import run_page

pytestmark = pytest.mark.integration


def test_a_network_of_16_bits_learns(loader):
    torch.manual_seed(0)
    model = resnet()
    images, labels = next(iter(loader))
    run_page("how-to/precision", model=model, loader=loader)
    assert all(param.dtype == torch.bfloat16 for param in model.parameters())
    with torch.no_grad():
        loss = F.cross_entropy(model(images.bfloat16()).float(), labels)
    assert loss < 1.0  # chance is 2.3
