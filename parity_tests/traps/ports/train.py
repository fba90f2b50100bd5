"""Training an autoencoder: optimisers, schedules inside the optimiser, clipping, decay masks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

STEPS, WARM = 6, 3
LR = 0.02


class AE(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.Dense(8, name="enc1")(x))
        z = nn.Dense(3, name="enc2")(h)
        h = nn.tanh(nn.Dense(8, name="dec1")(z))
        return nn.Dense(x.shape[-1], name="dec2")(h)


class TorchAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1 = torch.nn.Linear(6, 8)
        self.enc2 = torch.nn.Linear(8, 3)
        self.dec1 = torch.nn.Linear(3, 8)
        self.dec2 = torch.nn.Linear(8, 6)

    def forward(self, x):
        z = self.enc2(torch.tanh(self.enc1(x)))
        return self.dec2(torch.tanh(self.dec1(z)))


def jax_loss(out, batch):
    return ((out - batch["x"]) ** 2).sum(-1).mean()


def torch_loss(mistake):
    def loss(out, batch):
        if mistake == "loss mean":
            return F.mse_loss(out, batch["x"])
        if mistake == "loss half":
            return 0.5 * ((out - batch["x"]) ** 2).sum(-1).mean()
        if mistake == "L1 loss":
            return F.l1_loss(out, batch["x"], reduction="none").sum(-1).mean()
        return F.mse_loss(out, batch["x"], reduction="sum") / len(out)

    return loss


def warm_cosine(step):  # step = 0, 1, ...
    if step < WARM:
        return (step + 1) / WARM
    return 0.5 * (1 + math.cos(math.pi * (step - WARM) / (STEPS - WARM)))


def jax_schedule(step):
    step = jnp.asarray(step, jnp.float64)
    warm = (step + 1) / WARM
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * (step - WARM) / (STEPS - WARM)))
    return LR * jnp.where(step < WARM, warm, cosine)


class Scheduled(torch.optim.AdamW):
    """AdamW that sets its lr, and clips, in step()."""

    def __init__(self, params, schedule, clip=None, by_value=False, accumulate=None, **kw):
        super().__init__(params, **kw)
        self.schedule, self.clip, self.by_value, self.count = schedule, clip, by_value, 0
        self.base = self.defaults["lr"]

    def step(self, closure=None):
        for g in self.param_groups:
            g["lr"] = self.base * self.schedule(self.count)
        params = [p for g in self.param_groups for p in g["params"]]
        if self.clip and self.by_value:
            torch.nn.utils.clip_grad_value_(params, self.clip)
        elif self.clip == "each":
            for p in params:
                torch.nn.utils.clip_grad_norm_([p], 0.5)
        elif self.clip == "torch's":
            torch.nn.utils.clip_grad_norm_(params, 1.0)
        elif self.clip:  # clip_grad_norm_ without its 1e-6
            norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in params]))
            factor = torch.clamp(self.clip / norm, max=1.0)
            for p in params:
                p.grad.mul_(factor)
        super().step(closure)
        self.count += 1


class ScheduledLambda(Scheduled):
    """The same with a LambdaLR inside."""

    def __init__(self, params, schedule, **kw):
        super().__init__(params, lambda s: 1.0, **kw)
        self.lambda_lr = None
        self.fn = schedule

    def step(self, closure=None):
        for g in self.param_groups:
            g["lr"] = self.base * self.fn(self.count)
        params = [p for g in self.param_groups for p in g["params"]]
        if self.clip:
            grads = [p.grad for p in params if p.grad is not None]
            norm = torch.sqrt(sum((g**2).sum() for g in grads))
            if norm > self.clip:
                for g in grads:
                    g.mul_(self.clip / norm)
        torch.optim.AdamW.step(self, closure)
        self.count += 1


def decayed(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


# which pair of optimisers a case uses, and how PyTorch's is made
def adam(**kw):
    base = dict(lr=LR, betas=(0.9, 0.999), eps=1e-8)
    return lambda ps: torch.optim.Adam(ps, **{**base, **kw})


def adamw(schedule=warm_cosine, mask=True, cls=Scheduled, **kw):
    base = dict(lr=LR, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.05, clip=1.0)
    base.update(kw)

    def make(ps):
        ps = list(ps)
        if mask == "inverted":
            a, b = [p for p in ps if p.ndim <= 1], [p for p in ps if p.ndim > 1]
        elif mask:
            a, b = [p for p in ps if p.ndim > 1], [p for p in ps if p.ndim <= 1]
        else:
            a, b = ps, []
        groups = [{"params": a}]
        if b:
            groups.append({"params": b, "weight_decay": 0.0})
        return cls(groups, schedule, **base)

    return make


def sgd(**kw):
    base = dict(lr=0.01, momentum=0.9)
    return lambda ps: torch.optim.SGD(ps, **{**base, **kw})


JAX = {
    "adam": lambda: optax.adam(LR, b1=0.9, b2=0.999, eps=1e-8),
    "adamw": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(jax_schedule, b1=0.9, b2=0.99, eps=1e-6, weight_decay=0.05, mask=decayed),
    ),
    "sgd": lambda: optax.sgd(0.01, momentum=0.9),
    "l2": lambda: optax.chain(optax.add_decayed_weights(0.05), optax.sgd(0.01, momentum=0.9)),
}


def cosine_over(horizon):
    def f(s):
        if s < WARM:
            return (s + 1) / WARM
        return 0.5 * (1 + math.cos(math.pi * (s - WARM) / horizon))

    return f


CASES = {
    "": ("adamw", adamw()),
    "plain adam": ("adam", adam()),
    "clip by hand": ("adamw", adamw(cls=ScheduledLambda)),
    "sgd": ("sgd", sgd()),
    "sgd foreach": ("sgd", sgd(foreach=True)),
    "L2 in sgd": ("l2", sgd(weight_decay=0.05)),
    "adam eps": ("adam", adam(eps=1e-4)),
    "adam betas": ("adam", adam(betas=(0.8, 0.999))),
    "adam second beta": ("adam", adam(betas=(0.9, 0.9))),
    "adam lr": ("adam", adam(lr=0.01)),
    "amsgrad": ("adam", adam(amsgrad=True)),
    "adam L2": ("adam", adam(weight_decay=0.1)),
    "adam became adamw": ("adam", lambda ps: torch.optim.AdamW(ps, lr=LR, weight_decay=0.3)),
    "adam became sgd": ("adam", lambda ps: torch.optim.SGD(ps, lr=LR)),
    "adam became rmsprop": ("adam", lambda ps: torch.optim.RMSprop(ps, lr=LR)),
    "maximise": ("adam", adam(maximize=True)),
    "nesterov": ("sgd", sgd(nesterov=True)),
    "momentum": ("sgd", sgd(momentum=0.8)),
    "momentum missing": ("sgd", sgd(momentum=0.0)),
    "dampening": ("sgd", sgd(dampening=0.9)),
    "L2 missing": ("l2", sgd()),
    "decoupled for L2": ("l2", None),
    "warm-up off by one": ("adamw", adamw(lambda s: warm_cosine(s + 1))),
    "warm-up from zero": ("adamw", adamw(lambda s: s / WARM if s < WARM else warm_cosine(s))),
    "warm-up missing": ("adamw", adamw(lambda s: 1.0 if s < WARM else warm_cosine(s))),
    "warm-up longer": (
        "adamw",
        adamw(lambda s: min(1.0, (s + 1) / 5) if s < 5 else warm_cosine(s)),
    ),
    "cosine over another horizon": ("adamw", adamw(cosine_over(10))),
    "no cosine": ("adamw", adamw(lambda s: min(1.0, (s + 1) / WARM))),
    "no schedule": ("adamw", adamw(lambda s: 1.0)),
    "schedule per epoch": ("adamw", adamw(lambda s: warm_cosine(s // 2))),
    "linear for cosine": (
        "adamw",
        adamw(lambda s: (s + 1) / WARM if s < WARM else 1 - (s - WARM) / (STEPS - WARM)),
    ),
    "clip by value": ("adamw", adamw(by_value=True)),
    "clip each": ("adamw", adamw(clip="each")),
    "clip_grad_norm_ adds 1e-6": ("adamw", adamw(clip="torch's")),
    "clip missing": ("adamw", adamw(clip=None)),
    "clip at another norm": ("adamw", adamw(clip=5.0)),
    "decay on biases": ("adamw", adamw(mask=False)),
    "decay mask inverted": ("adamw", adamw(mask="inverted")),
    "decay missing": ("adamw", adamw(weight_decay=0.0)),
    "default decay": ("adamw", adamw(weight_decay=0.01)),
    "adamw betas": ("adamw", adamw(betas=(0.9, 0.999))),
    "adamw eps": ("adamw", adamw(eps=1e-8)),
}


class DecoupledSGD(torch.optim.SGD):
    def step(self, closure=None):
        with torch.no_grad():
            for g in self.param_groups:
                for p in g["params"]:
                    p.mul_(1 - g["lr"] * 0.05)
        super().step(closure)


CASES["decoupled for L2"] = ("l2", lambda ps: DecoupledSGD(ps, lr=0.01, momentum=0.9))

EQUAL = ("", "plain adam", "clip by hand", "sgd", "sgd foreach", "L2 in sgd")


def build(mistake, seed):
    r = rng(seed)
    which, make = CASES.get(mistake, CASES[""])
    return dict(
        flax_model=AE(),
        torch_module=randomise(TorchAE(), seed, 0.5).train(),
        batch={"x": r.normal(size=(8, 6))},
        options=dict(
            jax_loss=jax_loss,
            torch_loss=torch_loss(mistake),
            optimizer=(JAX[which](), make),
            steps=STEPS,
        ),
    )
