"""Usual ways of writing that `check_parity` once took for mistakes, and what it says of layouts."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxprob import interop
from jaxprob.interop import parity

RNG = np.random.default_rng(0)
STRICT = {"value": 1e-12, "grad": 1e-11}


class Hard(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.hard_sigmoid(nn.Dense(4, name="fc")(x)) + nn.hard_swish(
            nn.Dense(4, name="out")(x)
        )


class TorchHard(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)

    def forward(self, x):
        f = torch.nn.functional
        return f.hardsigmoid(self.fc(x)) + f.hardswish(self.out(x))


def test_a_hard_sigmoid_has_its_derivative_to_the_last_digit():
    batch = {"x": RNG.normal(size=(6, 3))}
    interop.check_parity(Hard(), TorchHard(), batch).require(**STRICT)


class Images(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(3, (1, 1), name="conv")(x)


class TorchImages(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1)
        self.register_buffer("shift", torch.zeros(3, 1, 1))

    def forward(self, x):
        return self.conv(x) + self.shift


def squared(output, batch):
    return ((output[..., :1] - batch["x"][..., :1]) ** 2).mean()


def squared_first(output, batch):
    return ((output[:, :1] - batch["x"][:, :1]) ** 2).mean()


@pytest.mark.parametrize("losses", [{}, {"jax_loss": squared, "torch_loss": squared_first}])
def test_images_come_and_go_channels_first(losses):
    batch = {"x": RNG.normal(size=(3, 5, 4, 2))}
    report = interop.check_parity(
        Images(), TorchImages(), batch, channels_first=("x",), **losses
    ).require(**STRICT)
    assert report.findings == ()


def test_the_place_of_the_channels_is_hinted_at():
    first = {"x": RNG.normal(size=(3, 2, 5, 4))}
    with pytest.raises(ValueError, match=r"(?s)channels last, as Flax takes it.*channels_first="):
        interop.check_parity(Images(), TorchImages(), first)
    last = {"x": RNG.normal(size=(3, 5, 4, 2))}
    with pytest.raises(ValueError, match=r'give channels_first=\("x",\)'):
        interop.check_parity(Images(), TorchImages(), last)


class Twice(nn.Module):
    """Layers called l1 and l2, which are no runs of a recurrent layer."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(4, name="l1")(x))
        return nn.Dense(2, name="l2")(x)


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Twice(name="net")(x)


class TorchTwice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2 = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.l2(torch.tanh(self.l1(x)))


class TorchOuter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = TorchTwice()

    def forward(self, x):
        return self.net(x)


def test_layers_with_the_names_of_runs_are_layers():
    report = interop.check_parity(Outer(), TorchOuter(), {"x": RNG.normal(size=(4, 3))})
    assert report.findings == ()
    assert max(layer.output_error for layer in report.layers) < 1e-12
    assert "No disagreement was found." in str(report)


class Runs(nn.Module):
    @nn.compact
    def __call__(self, x, lengths):
        out = nn.RNN(nn.GRUCell(4, name="cell"), name="rnn")(x, seq_lengths=lengths)
        keep = jnp.arange(x.shape[1])[None] < lengths[:, None]
        return nn.Dense(2, name="out")(out * keep[..., None])


class TorchRuns(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = torch.nn.GRU(3, 4, batch_first=True), torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.rnn.bias_hh_l0[:8] = 0.0  # Linen has one bias of these gates

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.out(out)


def test_packed_sequences_are_compared_where_they_have_steps():
    batch = {"x": RNG.normal(size=(3, 6, 3)), "lengths": np.array([6, 2, 4])}
    report = interop.check_parity(
        Runs(), TorchRuns(), batch, inputs=("x", "lengths"), rename={"cell": "rnn.l0"}
    ).require(value=1e-12)
    errors = {layer.layer: layer.output_error for layer in report.layers}
    assert errors["rnn"] < 1e-12


def test_a_report_without_findings_says_what_its_table_shows():
    layers = (parity.report.LayerError("norm", "LayerNorm", 0.0, 0.36),)
    report = parity.ParityReport("float64", (), layers)
    assert "norm gives other values on the two sides (3.6e-01)" in str(report)
    assert "No disagreement" not in str(report)
    assert "norm gives" in report.to_markdown()
    assert "norm gives" in report.to_html()


def test_outputs_that_are_nan_on_both_sides_are_no_noise():
    class Log(torch.nn.Module):
        def forward(self, x):
            return x.log()

    model = nn.Sequential([nn.Dense(2), jnp.log])
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), Log())
    batch = {"x": RNG.normal(size=(8, 3))}
    losses = {"jax_loss": lambda p, b: jnp.nansum(p), "torch_loss": lambda p, b: p.nansum()}
    assert interop.check_parity(model, module, batch, **losses).value < 1e-12
