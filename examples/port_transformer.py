"""Port a small transformer from PyTorch to Flax, from the first file to a report without findings.

The original is a GPT as people write one, trained in PyTorch to count on in steps, modulo 13.
Each report on the port names one thing to mend; then the run itself moves, AdamW's state with it.

    python examples/port_transformer.py
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

from jaxprob import interop, optim

T, WIDTH, HEADS = 24, 32, 4


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.merge = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.merge(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TorchGPT(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = torch.nn.Embedding(13, WIDTH), torch.nn.Embedding(T, WIDTH)
        self.blocks = torch.nn.Sequential(TorchBlock(), TorchBlock())
        self.norm, self.head = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 13, bias=False)

    def forward(self, x):
        h = self.token(x) + self.place.weight
        return self.head(self.norm(self.blocks(h)))


class Block(nn.Module):
    epsilon: float
    root: bool
    approximate: bool

    @nn.compact
    def __call__(self, x):
        b, t, _ = x.shape
        qkv = nn.Dense(3 * WIDTH, name="qkv")(nn.LayerNorm(self.epsilon, name="norm1")(x))
        q, k, v = jnp.moveaxis(qkv.reshape(b, t, 3, HEADS, -1), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        scores /= jnp.sqrt(WIDTH // HEADS if self.root else WIDTH)
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf)
        y = jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v).reshape(b, t, WIDTH)
        x = x + nn.Dense(WIDTH, name="merge")(y)
        y = nn.Dense(4 * WIDTH, name="up")(nn.LayerNorm(self.epsilon, name="norm2")(x))
        return x + nn.Dense(WIDTH, name="down")(nn.gelu(y, self.approximate))


class GPT(nn.Module):
    epsilon: float = 1e-6  # Linen's default
    root: bool = False  # scores are divided by the root of a head's width, or of the whole one
    approximate: bool = True  # Linen's default

    @nn.compact
    def __call__(self, x):
        h = nn.Embed(13, WIDTH, name="token")(x) + nn.Embed(T, WIDTH, name="place")(jnp.arange(T))
        for i in range(2):
            h = Block(self.epsilon, self.root, self.approximate, name=f"blocks_{i}")(h)
        h = nn.LayerNorm(self.epsilon, name="norm")(h)
        return nn.Dense(13, use_bias=False, name="head")(h)


def jax_loss(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


def torch_loss(logits, batch):
    return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())


def counting(rng, rows):
    """Returns (x, y), each [rows, T]: start + step * t modulo 13, and the same one step later."""
    start, step = rng.integers(0, 13, (rows, 1)), rng.integers(1, 13, (rows, 1))
    numbers = (start + step * np.arange(T + 1)) % 13
    return numbers[:, :-1], numbers[:, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="steps in PyTorch before the move")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/port_transformer", help="folder of the report")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    module = TorchGPT()
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = torch_loss(module(torch.tensor(x)), {"y": torch.tensor(y)})
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(options.steps):
        loss = step(*counting(rng, 32))
    print(f"PyTorch after {options.steps} steps: {loss:.3f} nats a number")

    x, y = counting(rng, 4)
    batch, losses = {"x": x, "y": y}, {"jax_loss": jax_loss, "torch_loss": torch_loss}
    for port in (GPT(), GPT(1e-5), GPT(1e-5, root=True), GPT(1e-5, True, approximate=False)):
        report = interop.check_parity(port, module, batch, **losses)
        print(f"\n{port}\n{report}")
    path = pathlib.Path(options.out) / "mended.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    report.save(path)
    report.require(value=1e-12, grad=1e-10)

    params = interop.from_torch(module, port.init(jax.random.key(0), x)["params"])
    adamw = optim.adamw(3e-3)
    state = interop.optimizer_from_torch(optimizer, module, adamw.init(params), params)
    loss_of = lambda p, x, y: jax_loss(port.apply({"params": p}, x), {"y": y})  # noqa: E731
    value_and_grad = jax.jit(jax.value_and_grad(loss_of))
    print("\nloss of five further steps, PyTorch and JAX:")
    for _ in range(5):
        x, y = counting(rng, 32)
        loss, grads = value_and_grad(params, x, y)
        updates, state = adamw.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        print(f"  {step(x, y):.6f}  {loss:.6f}")
    print(f"report: {path}")


if __name__ == "__main__":
    main()
