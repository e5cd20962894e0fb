"""Adapt a trained network by LoRA: what has learned digits learns their negatives, with peft."""

import argparse

import torch
from peft import LoraConfig, get_peft_model
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import untuned

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
steps = parser.parse_args().steps

torch.manual_seed(0)
images, labels = map(torch.tensor, load_digits(return_X_y=True))
images = images.float() / 16
negatives = 1 - images


def train(model, images):
    opt = untuned.Auto(model)  # all that there is to set; frozen weights stay as they are
    model.train()
    for _ in range(steps):
        chosen = torch.randint(1400, (64,))
        loss = cross_entropy(model(images[chosen]), labels[chosen])
        opt.zero_grad()
        loss.backward()
        opt.step()


@torch.no_grad()
def accuracy(model, images):
    model.eval()
    return (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()


# Yours comes from a file or a hub
model = nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
)
train(model, images)
print(f"trained: accuracy {accuracy(model, images):.3f}")

before = accuracy(model, negatives)
model = get_peft_model(model, LoraConfig(r=4, target_modules=["0", "2", "4"]))
train(model, negatives)
after = accuracy(model, negatives)
print(f"negatives: accuracy {before:.3f} before, {after:.3f} after, with adapters of rank 4")
