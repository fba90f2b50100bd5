"""Port a BiLSTM tagger from PyTorch to Flax: sequences of unlike length, packed there, masked here.

The task is made up: a bracket opens and closes, and each letter is tagged with how deep it stands,
counted from the nearer end. The original packs its sequences and averages the loss over the letters
that exist. The port runs two Linen LSTMs; each report names one thing to mend, among them what only
padding shows. At the end both tag the same lines.

    python examples/port_tagger.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxprob import interop

LETTERS, TAGS, WIDTH, T = "_()ab", 4, 16, 20
# what from_torch suggests where the cells have no names
RENAME = {"forward": "lstm.l0", "backward": "lstm.l0_reverse"}


class TorchTagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(len(LETTERS), 8, padding_idx=0)
        self.lstm = torch.nn.LSTM(8, WIDTH, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(2 * WIDTH, TAGS)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(
            self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.out(h)


class Tagger(nn.Module):
    kept: bool = False  # the reversed pass gives its states in the order of the letters
    lengths: bool = False  # the reversed pass starts at the last letter of each line
    zeroed: bool = False  # states of the padding are 0

    @nn.compact
    def __call__(self, x, lengths):
        h = nn.Embed(len(LETTERS), 8, name="embed")(x)
        ends = lengths if self.lengths else None
        cells = [nn.OptimizedLSTMCell(WIDTH, name=name) for name in RENAME]
        forward = nn.RNN(cells[0])(h, seq_lengths=ends)
        backward = nn.RNN(cells[1], reverse=True, keep_order=self.kept)(h, seq_lengths=ends)
        h = jnp.concatenate([forward, backward], axis=-1)
        if self.zeroed:
            h = h * (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]
        return nn.Dense(TAGS, name="out")(h)


def jax_loss(logits, batch):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    exists = jnp.arange(T)[None] < batch["lengths"][:, None]
    return jnp.sum(each * exists) / jnp.sum(exists)


def torch_loss(logits, batch):
    exists = torch.arange(T)[None] < batch["lengths"][:, None]
    target = batch["y"].masked_fill(~exists, -100)  # what cross_entropy ignores
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def lines(rng, rows):
    """Returns x and y `[rows, T]`, and lengths `[rows]`: letters, depth of each modulo 4."""
    lengths = rng.integers(4, T + 1, rows)
    exists = np.arange(T) < lengths[:, None]
    x = np.where(exists, rng.integers(1, len(LETTERS), (rows, T)), 0)
    change = (x == 1) * 1 - (x == 2) * 1
    before, after = np.cumsum(change, 1), np.cumsum(change[:, ::-1], 1)[:, ::-1]
    nearer = np.where(np.arange(T) < lengths[:, None] / 2, before, -after)
    return {"x": x, "y": nearer % TAGS, "lengths": lengths}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=600, help="steps in PyTorch before the port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/port_tagger", help="folder of report and weights")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    module = TorchTagger()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(options.steps):
        batch = {name: torch.tensor(value) for name, value in lines(rng, 64).items()}
        loss = torch_loss(module(batch["x"], batch["lengths"]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"PyTorch after {options.steps} steps: {loss.item():.3f} nats a letter")

    batch = lines(rng, 8)
    for port in (Tagger(), Tagger(True), Tagger(True, True), Tagger(True, True, True)):
        report = interop.check_parity(
            port,
            module,
            batch,
            inputs=("x", "lengths"),
            jax_loss=jax_loss,
            torch_loss=torch_loss,
            rename=RENAME,
        )
        print(f"\n{port}\n{report}")
    report.require(value=1e-12, grad=1e-10)

    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    report.save(folder / "mended.html")
    params = port.init(jax.random.key(0), batch["x"], batch["lengths"])["params"]
    params = interop.from_torch(module, params, rename=RENAME)
    interop.save(folder / "tagger.safetensors", params)
    ours = port.apply({"params": params}, batch["x"], batch["lengths"]).argmax(-1)
    with torch.no_grad():
        theirs = module(torch.tensor(batch["x"]), torch.tensor(batch["lengths"])).argmax(-1)
    print("a line, its tags, and those of PyTorch and of JAX:")
    for row in range(3):
        n = batch["lengths"][row]
        print("  " + "".join(LETTERS[i] for i in batch["x"][row, :n]))
        for tags in (batch["y"], theirs.numpy(), np.asarray(ours)):
            print("  " + "".join(map(str, tags[row, :n])))
    print(f"report and weights: {folder}")


if __name__ == "__main__":
    main()
