"""Predict a number from a table: the progress of diabetes, scikit-learn's 442 patients."""

import argparse

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import untuned

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

torch.manual_seed(0)
columns, progress = (torch.tensor(each).float() for each in load_diabetes(return_X_y=True))
order = torch.randperm(len(columns))
train, test = order[:350], order[350:]
columns = (columns - columns[train].mean(0)) / columns[train].std(0)
mean, deviation = progress[train].mean(), progress[train].std()
targets = ((progress - mean) / deviation)[:, None]
loader = DataLoader(TensorDataset(columns[train], targets[train]), batch_size=32, shuffle=True)

model = nn.Sequential(
    nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
)
opt = untuned.Auto(model)  # all that there is to set

for epoch in range(1, epochs + 1):
    model.train()
    for inputs, wanted in loader:
        loss = mse_loss(model(inputs), wanted)
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()  # the network is now the average of its weights
    with torch.no_grad():
        error = mse_loss(model(columns[test]), targets[test]).sqrt().item() * deviation.item()
    print(f"epoch {epoch}: root mean square error {error:.1f}")
