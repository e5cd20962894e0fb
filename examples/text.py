"""Write text: a GPT that reads characters, by default those of this library's source."""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import untuned

LENGTH, WIDTH = 64, 64
SOURCE = sorted(Path(untuned.__file__).parent.rglob("*.py"))

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--files", type=Path, nargs="+", default=SOURCE)
parser.add_argument("--steps", type=int, default=1000)
options = parser.parse_args()

torch.manual_seed(0)
text = "\n".join(file.read_text(encoding="utf-8") for file in options.files)
letters = sorted(set(text))
tokens = torch.tensor([letters.index(letter) for letter in text])
cut = len(tokens) * 9 // 10


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters, self.places = nn.Embedding(len(letters), WIDTH), nn.Embedding(LENGTH, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2)
        self.head = nn.Linear(WIDTH, len(letters))

    def forward(self, read):  # (n, length) to (n, length, letters)
        mask = nn.Transformer.generate_square_subsequent_mask(read.shape[1])
        x = self.letters(read) + self.places(torch.arange(read.shape[1]))
        return self.head(self.blocks(x, mask, is_causal=True))


def loss_of(model, tokens, count):
    windows = tokens.unfold(0, LENGTH + 1, 1)[torch.randint(len(tokens) - LENGTH, (count,))]
    return cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


model = GPT()
opt = untuned.Auto(model)  # all that there is to set

for step in range(1, options.steps + 1):
    loss = loss_of(model, tokens[:cut], count=16)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0 or step == options.steps:
        model.eval()  # the network is now the average of its weights
        with torch.no_grad():
            bits = loss_of(model, tokens[cut:], count=256).item() / 0.6931
        model.train()
        print(f"step {step}: {bits:.2f} bits per character")
