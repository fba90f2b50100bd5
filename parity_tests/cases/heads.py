"""Rows of the heads: features and weights in; log-probabilities and means out, with gradients."""

import numpy as np
import torch
from flax.traverse_util import unflatten_dict
from torch.func import functional_call

from jaxprob import heads
from parity_tests import weights
from parity_tests.engine import FunctionCase
from torch_ref import heads as twins

_rng = np.random.default_rng(4)
B, H = 6, 3
FEATURES = _rng.normal(size=(B, H))
REAL = _rng.normal(size=(B, 2))
EXPOSURE = _rng.uniform(0.2, 4.0, (B, 2))
UNITS = {"features": 2, "target_mean": (1.0, -2.0), "target_std": (0.5, 2.0)}

# head, options, targets, further inputs of the head
HEADS = [
    ("NormalHead", UNITS, REAL, {}),
    ("NormalHead", UNITS | {"homoscedastic": True}, REAL, {}),
    ("StudentTHead", UNITS, REAL, {}),
    ("StudentTHead", UNITS | {"df": 4.0}, REAL, {}),
    ("LaplaceHead", UNITS, REAL, {}),
    ("LogNormalHead", UNITS, np.exp(REAL), {}),
    ("GammaHead", {"features": 2, "target_mean": 3.0}, np.exp(REAL), {}),
    ("BetaHead", {"features": 2}, 1 / (1 + np.exp(-REAL)), {}),
    ("PoissonHead", {"features": 2}, _rng.poisson(2.0, (B, 2)), {"exposure": EXPOSURE}),
    ("PoissonHead", {"features": 2, "zero_inflated": True}, _rng.poisson(1.0, (B, 2)), {}),
    ("NegativeBinomialHead", {"features": 2}, _rng.poisson(2.0, (B, 2)), {}),
    (
        "NegativeBinomialHead",
        {"features": 2, "zero_inflated": True, "target_mean": 2.0},
        _rng.poisson(1.0, (B, 2)),
        {"exposure": EXPOSURE},
    ),
    ("BernoulliHead", {"features": 2}, _rng.integers(0, 2, (B, 2)), {}),
    ("CategoricalHead", {"num_classes": 4}, _rng.integers(0, 4, B), {}),
    ("MixtureHead", UNITS | {"components": 3}, REAL, {}),
    (
        "DiscretizedLogisticMixtureHead",
        {"features": 2, "num_components": 3, "levels": 8},
        np.array([[0, 7], [7, 1], [3, 0], [6, 5], [2, 2], [1, 4]]),
        {},
    ),
    ("MultivariateNormalHead", UNITS, REAL, {}),
    ("QuantileHead", UNITS | {"levels": (0.1, 0.3, 0.9)}, REAL, {}),
]


def head_row(name: str, options: dict, y: np.ndarray, more: dict) -> FunctionCase:
    """One head; its weights are inputs, so that their gradients are compared."""
    ours = getattr(heads, name)(**options)
    arrays = weights.drawn(ours, FEATURES, size=0.5)

    def jax_fn(a, key):
        params = unflatten_dict({tuple(path.split("/")): a[path] for path in arrays})
        distribution = ours.apply({"params": params}, a["h"], *(a[k] for k in more))
        found = {"log_prob": distribution.log_prob(y)}
        return found if name == "CategoricalHead" else found | {"mean": distribution.mean()}

    def torch_fn(a, key):
        twin = getattr(twins, name)(H, **options)
        tensors = weights.to_tensors(a, twin)
        distribution = functional_call(twin, tensors, (a["h"], *(a[k] for k in more)))
        found = {"log_prob": distribution.log_prob(torch.as_tensor(y).to(_kind(y, a["h"])))}
        return found if name == "CategoricalHead" else found | {"mean": distribution.mean}

    said = [k for k in ("homoscedastic", "zero_inflated", "df") if k in options] + list(more)
    return FunctionCase(" ".join([name, *said]), jax_fn, torch_fn, arrays | {"h": FEATURES} | more)


def _kind(y: np.ndarray, like: torch.Tensor) -> torch.dtype:
    return like.dtype if y.dtype.kind == "f" else torch.int64


FUNCTIONS = [head_row(*row) for row in HEADS]
