"""Rows of the heads: features and weights in; log-probabilities and means out, with gradients."""

import jax
import numpy as np
import torch
from torch.func import functional_call

from jaxprob import heads
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
    shapes = jax.eval_shape(lambda key: ours.init(key, FEATURES), jax.random.key(0))["params"]
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]
    }
    weights = {path: _rng.normal(0.0, 0.5, shape) for path, shape in paths.items()}

    def jax_fn(a, key):
        params: dict = {}
        for path in paths:
            *layer, leaf = path.split("/")
            (params.setdefault(layer[0], {}) if layer else params)[leaf] = a[path]
        distribution = ours.apply({"params": params}, a["h"], *(a[k] for k in more))
        found = {"log_prob": distribution.log_prob(y)}
        return found if name == "CategoricalHead" else found | {"mean": distribution.mean()}

    def torch_fn(a, key):
        twin = getattr(twins, name)(H, **options)
        named = {
            path.replace("/", ".").replace("kernel", "weight"): (
                a[path].T if path.endswith("kernel") else a[path]
            )
            for path in paths
        }
        distribution = functional_call(twin, named, (a["h"], *(a[k] for k in more)))
        found = {"log_prob": distribution.log_prob(torch.as_tensor(y).to(_kind(y, a["h"])))}
        return found if name == "CategoricalHead" else found | {"mean": distribution.mean}

    said = [k for k in ("homoscedastic", "zero_inflated", "df") if k in options] + list(more)
    return FunctionCase(" ".join([name, *said]), jax_fn, torch_fn, weights | {"h": FEATURES} | more)


def _kind(y: np.ndarray, like: torch.Tensor) -> torch.dtype:
    return like.dtype if y.dtype.kind == "f" else torch.int64


FUNCTIONS = [head_row(*row) for row in HEADS]
