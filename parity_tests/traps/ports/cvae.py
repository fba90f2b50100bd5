"""Convolutional VAE; the noise is an input; the image output is compared channels last/first."""

import flax.linen as nn
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

Z = 3


class VAE(nn.Module):
    @nn.compact
    def __call__(self, x, eps):
        b = x.shape[0]
        h = nn.relu(nn.Conv(6, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), name="conv1")(x))
        h = nn.relu(nn.Conv(8, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), name="conv2")(h))
        h = h.transpose(0, 3, 1, 2).reshape(b, -1)
        mu = nn.Dense(Z, name="mu")(h)
        logvar = nn.Dense(Z, name="logvar")(h)
        z = mu + jnp.exp(0.5 * logvar) * eps
        h = nn.relu(nn.Dense(8 * 2 * 2, name="fc")(z))
        h = h.reshape(b, 8, 2, 2).transpose(0, 2, 3, 1)
        h = nn.ConvTranspose(
            6, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), transpose_kernel=True, name="up1"
        )(h)
        h = nn.relu(h)
        logits = nn.ConvTranspose(
            1, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), transpose_kernel=True, name="up2"
        )(h)
        return logits, mu, logvar


class TorchVAE(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.conv1 = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.conv2 = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.mu = torch.nn.Linear(8 * 2 * 2, Z)
        self.logvar = torch.nn.Linear(8 * 2 * 2, Z)
        self.fc = torch.nn.Linear(Z, 8 * 2 * 2)
        self.up1 = torch.nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.up2 = torch.nn.ConvTranspose2d(6, 1, 4, stride=2, padding=1)

    def encode(self, x):
        h = F.relu(self.conv1(x))
        h = self.conv2(h)
        if self.mistake != "relu missing":
            h = F.relu(h)
        if self.mistake == "flatten order":
            h = h.permute(0, 2, 3, 1)
        h = h.flatten(1)
        logvar = self.logvar(h)
        if self.mistake == "logvar clamped":
            logvar = torch.clamp(logvar, -0.15, 0.15)
        return self.mu(h), logvar

    def reparameterise(self, mu, logvar, eps):
        m = self.mistake
        if m == "exp of logvar":
            return mu + torch.exp(logvar) * eps
        if m == "noise ignored":
            return mu
        if m == "minus":
            return mu - torch.exp(0.5 * logvar) * eps
        if m == "other writing":
            return torch.addcmul(mu, eps, logvar.exp().sqrt())
        return mu + eps * torch.exp(logvar / 2)

    def decode(self, z):
        h = F.relu(self.fc(z))
        if self.mistake == "unflatten order":
            h = h.view(-1, 2, 2, 8).permute(0, 3, 1, 2)
        else:
            h = h.view(-1, 8, 2, 2)
        h = self.up1(h)
        h = F.elu(h) if self.mistake == "elu for relu" else F.relu(h)
        out = self.up2(h)
        return torch.sigmoid(out) if self.mistake == "sigmoid added" else out

    def forward(self, x, eps):
        mu, logvar = self.encode(x)
        z = self.reparameterise(mu, logvar, eps)
        if self.mistake == "decoder sees zeros":
            z = torch.zeros_like(z)
        return self.decode(z), mu, logvar


def jax_loss(output, batch):
    logits, mu, logvar = output
    rec = optax.sigmoid_binary_cross_entropy(logits, batch["x"]).sum(axis=(1, 2, 3))
    kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar), axis=-1)
    return jnp.mean(rec + kl)


def torch_loss(mistake):
    def loss(output, batch):
        logits, mu, logvar = output
        x = batch["x"]
        if mistake == "other writing":
            rec = (
                F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="none").flatten(1).sum(1)
            )
            q = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
            p = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
            return (rec + torch.distributions.kl_divergence(q, p).sum(1)).mean()
        rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        if mistake == "mean of pixels":
            rec = F.binary_cross_entropy_with_logits(logits, x)
        if mistake == "mse for bce":
            rec = F.mse_loss(logits, x, reduction="sum") / len(x)
        each = 1 + logvar - mu.pow(2) - logvar.exp()
        if mistake == "KL mean":
            return rec - 0.5 * each.mean()
        if mistake == "KL without half":
            return rec - each.sum(1).mean()
        if mistake == "KL sign":
            return rec + 0.5 * each.sum(1).mean()
        return rec - 0.5 * each.sum(1).mean()

    return loss


EQUAL = ("", "other writing")


def build(mistake, seed):
    r = rng(seed)
    return dict(
        flax_model=VAE(),
        torch_module=randomise(TorchVAE(mistake), seed, 0.25),
        batch={"x": r.uniform(size=(4, 8, 8, 1)), "eps": r.normal(size=(4, Z))},
        options=dict(
            inputs=("x", "eps"),
            channels_first=("x",),
            jax_loss=jax_loss,
            torch_loss=torch_loss(mistake),
        ),
    )
