"""Networks on vectors, their losses and their optimisers, and what goes wrong in them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from parity_tests.traps.pair import Pair

__all__ = ["BYOL", "GAUSSIAN", "MLP", "TAGGER", "TRAINED"]


def vectors(rng, features=4):
    x = rng.normal(size=(12, features)).astype("float32")
    return {"x": x, "y": rng.normal(size=(12, 2))}


# A network with a layer of one's own, with functional calls between


class FlaxMixer(nn.Module):
    mistake: str

    @nn.compact
    def __call__(self, x):
        weight = self.param("weight", nn.initializers.normal(), (x.shape[-1], x.shape[-1]))
        return x @ (weight if self.mistake == "mixer transposed" else weight.T)


class FlaxMLP(nn.Module):
    mistake: str = ""

    def setup(self):
        self.fc1, self.fc2, self.out = nn.Dense(6), nn.Dense(6), nn.Dense(3)
        self.square = nn.Dense(6)
        self.mixer = FlaxMixer(self.mistake)

    def __call__(self, x):
        x = self.fc1(x)
        ddof = 0 if self.mistake == "sample deviation" else 1
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True, ddof=ddof)
        h = self.fc2(x)
        if self.mistake == "silu":
            h = nn.silu(h)
        elif self.mistake == "quick gelu":
            h = h * nn.sigmoid(1.702 * h)
        else:
            h = nn.gelu(h, approximate=False)
        h = x + self.square(self.mixer(h))
        logits = self.out(h)
        return nn.softmax(logits) if self.mistake == "softmax of log" else nn.log_softmax(logits)


class TorchMixer(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(width, width))

    def forward(self, x):
        return F.linear(x, self.weight)


class TorchMLP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(4, 6), torch.nn.Linear(6, 6)
        self.mixer, self.square = TorchMixer(6), torch.nn.Linear(6, 6)
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):
        x = self.fc1(x)
        x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
        h = F.gelu(self.fc2(x))
        x = x + self.square(self.mixer(h))
        return F.log_softmax(self.out(x), dim=-1)


def MLP(mistake, rng):
    module = TorchMLP()

    def given():
        state = {k: v.detach().numpy() for k, v in module.state_dict().items()}
        params: dict = {"mixer": {"weight": state["mixer.weight"]}}
        for name in ("fc1", "fc2", "square", "out"):
            kernel = state[f"{name}.weight"]
            kernel = kernel if name == "square" else kernel.T
            params[name] = {"kernel": kernel.copy(), "bias": state[f"{name}.bias"]}
        return params

    options = {"params": given} if mistake == "params as given" else {}
    return Pair(FlaxMLP(mistake), module, vectors(rng), "", "", options)


# The encoder of a VAE, with its loss


class FlaxGaussian(nn.Module):
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.Dense(5, name="fc1")(x))
        mean = nn.Dense(2, name="fc_mu")(h)
        log = nn.Dense(2, name="fc_logvar")(h)
        std = jnp.exp(log if self.mistake == "variance" else 0.5 * log)
        return mean, std if self.mistake == "no offset" else std + 1e-3


class TorchGaussian(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 5)
        self.fc_mu, self.fc_logvar = torch.nn.Linear(5, 2), torch.nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        return self.fc_mu(h), torch.exp(0.5 * self.fc_logvar(h)) + 1e-3


def GAUSSIAN(mistake, rng):
    def jax_loss(output, batch):
        mean, std = output
        square = (batch["y"] - mean) ** 2
        kl = 0.5 * (mean**2 + std**2 - 1) - jnp.log(std)
        kl = kl.mean() if mistake == "mean of kl" else kl.sum(-1).mean()
        return (square.mean() if mistake == "sum and mean" else square.sum()) + (
            0 * kl if mistake == "sum and mean" else kl
        )

    def torch_loss(output, batch):
        mean, std = output
        reconstruction = F.mse_loss(mean, batch["y"], reduction="sum")
        kl = (0.5 * (mean**2 + std**2 - 1) - std.log()).sum(-1).mean()
        return reconstruction + (0 * kl if mistake == "sum and mean" else kl)

    options = {"jax_loss": jax_loss, "torch_loss": torch_loss}
    return Pair(FlaxGaussian(mistake), TorchGaussian(), vectors(rng), "", "", options)


# Labels: a loss that skips padding; a sigmoid too many


def TAGGER(mistake, rng):
    model = nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(3)])
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    batch = {
        "x": rng.normal(size=(12, 4)),
        "tag": np.where(np.arange(12) % 4 == 3, 0, rng.integers(0, 3, size=12)),
        "hit": rng.integers(0, 2, size=(12, 3)).astype(float),
    }

    def jax_loss(logits, batch):
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["tag"])
        keep = jnp.ones(12) if mistake == "padding counted" else batch["tag"] != 0
        inner = jax.nn.sigmoid(logits) if mistake == "double sigmoid" else logits
        hits = optax.sigmoid_binary_cross_entropy(inner, batch["hit"]).mean()
        return (each * keep).sum() / keep.sum() + hits

    def torch_loss(logits, batch):
        tags = F.cross_entropy(logits, batch["tag"], ignore_index=0)
        return tags + F.binary_cross_entropy_with_logits(logits, batch["hit"])

    return Pair(model, module, batch, "", "", {"jax_loss": jax_loss, "torch_loss": torch_loss})


# Two networks, one of which shall not be trained


class FlaxBYOL(nn.Module):
    mistake: str = ""

    def setup(self):
        self.online = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])
        self.target = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])
        self.predictor = nn.Dense(3)

    def __call__(self, x):
        target = self.target(x)
        if self.mistake != "no stop gradient":
            target = jax.lax.stop_gradient(target)
        return ((self.predictor(self.online(x)) - target) ** 2).sum(-1)


class TorchBYOL(torch.nn.Module):
    def __init__(self):
        super().__init__()

        def encoder():
            return torch.nn.Sequential(
                torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
            )

        self.online, self.target = encoder(), encoder()
        self.predictor = torch.nn.Linear(3, 3)

    def forward(self, x):
        prediction = self.predictor(self.online(x))
        with torch.no_grad():
            target = self.target(x)
        return (prediction - target).pow(2).sum(-1)


def BYOL(mistake, rng):
    return Pair(FlaxBYOL(mistake), TorchBYOL(), vectors(rng), "", "")


# Training


def kernels(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


OPTIMISERS = {
    "dampening": (
        optax.sgd(0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, dampening=0.1),
    ),
    "adam epsilon": (optax.adam(1e-2, eps=1e-7), lambda p: torch.optim.Adam(p, 1e-2)),
    "adamw default": (optax.adamw(1e-2), lambda p: torch.optim.AdamW(p, 1e-2)),
    "biases not decayed": (
        optax.adamw(1e-2, weight_decay=0.1, mask=kernels),
        lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    ),
    "l2": (
        optax.adamw(1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
    ),
    "nesterov": (
        optax.sgd(0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (optax.rmsprop(1e-3, decay=0.99), lambda p: torch.optim.RMSprop(p, 1e-3)),
    "second beta": (
        optax.adam(1e-2, b2=0.95),
        lambda p: torch.optim.Adam(p, 1e-2, betas=(0.9, 0.999)),
    ),
    "learning rate": (optax.adam(1e-2), lambda p: torch.optim.Adam(p)),
    "clipping": (
        optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.05)),
        lambda p: torch.optim.SGD(p, 0.05),
    ),
    "": (optax.sgd(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
}


class FlaxRegressor(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (6, 6):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(2)(x)


class TorchRegressor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.Dense_1 = torch.nn.Linear(4, 6), torch.nn.Linear(6, 6)
        self.Dense_2 = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.Dense_2(torch.tanh(self.Dense_1(torch.tanh(self.Dense_0(x)))))


def TRAINED(mistake, rng):
    def loss(output, batch):
        return ((output - batch["y"]) ** 2).mean()

    options = {
        "jax_loss": loss,
        "torch_loss": loss,
        "optimizer": OPTIMISERS[mistake],
        "steps": 20,
    }
    return Pair(FlaxRegressor(), TorchRegressor(), vectors(rng), "", "", options)
