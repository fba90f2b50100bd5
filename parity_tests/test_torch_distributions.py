"""Our distributions against torch.distributions itself, and the places where torch is wrong.

The first half is parity at typical parameters, where torch is right. The second half states, for
each known failure of torch, that ours equals the truth and torch does not: the day it does, a test
fails here and we learn of it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import jaxprob.distributions as jd
from parity_tests.engine import relative_error
from parity_tests.tolerances import TORCH_DISTRIBUTIONS as BOUNDS

torch_d = torch.distributions
_rng = np.random.default_rng(21)
B, K = 6, 4
LOC, LOC_2 = _rng.normal(size=(2, B))
SCALE, SCALE_2 = _rng.uniform(0.4, 2.0, (2, B))
SHAPE, SHAPE_2 = _rng.uniform(0.6, 9.0, (2, B))
REAL, POSITIVE, UNIT = _rng.normal(size=B), _rng.uniform(0.2, 3.0, B), _rng.uniform(0.05, 0.95, B)
COUNT = _rng.integers(0, 9, B).astype(float)
LOGITS, LOGITS_2 = _rng.normal(size=(2, B))
CLASSES, CLASSES_2 = _rng.normal(size=(2, B, K))
SIMPLEX = _rng.dirichlet(np.ones(K), B)
TRIL = np.tril(0.3 * _rng.normal(size=(B, K, K)), -1) + np.eye(K) * _rng.uniform(
    0.5, 1.5, (B, K, 1)
)
VECTOR, VECTOR_2 = _rng.normal(size=(2, B, K))
DIAGONAL, FACTOR = _rng.uniform(0.5, 1.5, (B, K)), _rng.normal(size=(B, K, 2))
N = 20.0

# family -> (parameters, those of the second distribution of the divergence, values)
FAMILIES = {
    "Bernoulli": ({"logits": LOGITS}, {"logits": LOGITS_2}, (REAL > 0) * 1.0),
    "Beta": (
        {"concentration1": SHAPE, "concentration0": SCALE},
        {"concentration1": SHAPE_2, "concentration0": SCALE_2},
        UNIT,
    ),
    "Binomial": (
        {"total_count": N, "logits": LOGITS},
        {"total_count": N, "logits": LOGITS_2},
        COUNT,
    ),
    "Categorical": ({"logits": CLASSES}, {"logits": CLASSES_2}, COUNT % K),
    "Cauchy": ({"loc": LOC, "scale": SCALE}, {"loc": LOC_2, "scale": SCALE_2}, REAL),
    "Dirichlet": (
        {"concentration": np.exp(CLASSES)},
        {"concentration": np.exp(CLASSES_2)},
        SIMPLEX,
    ),
    "Exponential": ({"rate": SHAPE}, {"rate": SHAPE_2}, POSITIVE),
    "Gamma": (
        {"concentration": SHAPE, "rate": SCALE},
        {"concentration": SHAPE_2, "rate": SCALE_2},
        POSITIVE,
    ),
    "Geometric": ({"logits": LOGITS}, {"logits": LOGITS_2}, COUNT),
    "Gumbel": ({"loc": LOC, "scale": SCALE}, {"loc": LOC_2, "scale": SCALE_2}, REAL),
    "HalfNormal": ({"scale": SCALE}, {"scale": SCALE_2}, POSITIVE),
    "InverseGamma": (
        {"concentration": SHAPE + 2.0, "rate": SCALE},
        {"concentration": SHAPE_2, "rate": SCALE_2},
        POSITIVE,
    ),
    "Laplace": ({"loc": LOC, "scale": SCALE}, {"loc": LOC_2, "scale": SCALE_2}, REAL),
    "LogNormal": ({"loc": LOC, "scale": SCALE}, {"loc": LOC_2, "scale": SCALE_2}, POSITIVE),
    "LowRankMultivariateNormal": (
        {"loc": VECTOR, "cov_factor": FACTOR, "cov_diag": DIAGONAL},
        {"loc": VECTOR_2, "cov_factor": FACTOR[::-1].copy(), "cov_diag": DIAGONAL},
        VECTOR[::-1].copy(),
    ),
    "Multinomial": (
        {"total_count": int(N), "logits": CLASSES},
        {"total_count": int(N), "logits": CLASSES_2},
        _rng.multinomial(int(N), np.ones(K) / K, B) * 1.0,
    ),
    "MultivariateNormal": (
        {"loc": VECTOR, "scale_tril": TRIL},
        {"loc": VECTOR_2, "scale_tril": TRIL[::-1].copy()},
        VECTOR[::-1].copy(),
    ),
    "NegativeBinomial": (
        {"total_count": SHAPE, "logits": LOGITS},
        {"total_count": SHAPE, "logits": LOGITS_2},
        COUNT,
    ),
    "Normal": ({"loc": LOC, "scale": SCALE}, {"loc": LOC_2, "scale": SCALE_2}, REAL),
    "OneHotCategorical": (
        {"logits": CLASSES},
        {"logits": CLASSES_2},
        np.eye(K)[COUNT.astype(int) % K],
    ),
    "Poisson": ({"rate": SHAPE}, {"rate": SHAPE_2}, COUNT),
    "RelaxedBernoulli": ({"temperature": 0.7, "logits": LOGITS}, None, UNIT),
    "RelaxedOneHotCategorical": ({"temperature": 0.7, "logits": CLASSES}, None, SIMPLEX),
    "StudentT": ({"df": SHAPE + 2.0, "loc": LOC, "scale": SCALE}, None, REAL),
    "Uniform": (
        {"low": LOC - 3.0, "high": LOC + 2.0 + SCALE},
        {"low": LOC - 4.0, "high": LOC + 9.0},
        LOC + UNIT,
    ),
    "VonMises": (
        {"loc": LOC, "concentration": SHAPE},
        {"loc": LOC_2, "concentration": SHAPE_2},
        REAL,
    ),
    "Weibull": (
        {"scale": SCALE, "concentration": SHAPE},
        {"scale": SCALE_2, "concentration": SHAPE_2},
        POSITIVE,
    ),
}
LEVELS = np.linspace(0.1, 0.9, B)


def _in_torch(parameters: dict) -> dict:
    return {
        n: v if isinstance(v, int) else torch.tensor(v, dtype=torch.float64)
        for n, v in parameters.items()
    }


def _of_torch(family: str, parameters: dict, second: dict | None, x: np.ndarray) -> dict:
    """What torch gives for a family; what it lacks is left out."""
    cls = getattr(torch_d, family)
    p = cls(**_in_torch(parameters))
    wanted = {
        "log_prob": lambda: p.log_prob(torch.tensor(x)),
        "mean": lambda: p.mean,
        "variance": lambda: p.variance,
        "entropy": lambda: p.entropy(),
        "cdf": lambda: p.cdf(torch.tensor(x)),
        "quantile": lambda: p.icdf(torch.tensor(LEVELS)),
    }
    if second is not None:
        q = cls(**_in_torch(second))
        wanted["kl"] = lambda: torch_d.kl_divergence(p, q)
    found = {}
    for name, compute in wanted.items():
        try:
            value = compute()
        except NotImplementedError:
            continue
        if not bool(value.isnan().all()):  # torch says so where there is no such moment
            found[name] = value.numpy()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_parity_with_torch_distributions(family):
    parameters, second, x = FAMILIES[family]
    expected = _of_torch(family, parameters, second, x)
    assert "log_prob" in expected

    @jax.jit
    def ours(parameters, second):
        p = getattr(jd, family)(**parameters)
        compute = {
            "log_prob": lambda: p.log_prob(x),
            "mean": p.mean,
            "variance": p.variance,
            "entropy": p.entropy,
            "cdf": lambda: p.cdf(x),
            "quantile": lambda: p.quantile(LEVELS),
            "kl": lambda: p.kl_divergence(getattr(jd, family)(**second)),
        }
        return {name: compute[name]() for name in expected if (family, name) not in NOT_OURS}

    for name, value in ours(parameters, second).items():
        bound = BOUNDS.get((family, name), BOUNDS["typical"])
        error = relative_error(value, expected[name])
        assert error <= bound, f"{family}.{name}: {error:.1e}, more than {bound:.0e}"


# torch gives these by convention or by sampling-free sums that have no closed form
NOT_OURS = {
    ("Multinomial", "entropy"),
    ("Binomial", "entropy"),
    ("Categorical", "mean"),
    ("RelaxedBernoulli", "mean"),
    ("RelaxedBernoulli", "variance"),
    ("RelaxedOneHotCategorical", "mean"),
}


def test_every_class_that_torch_has_is_compared():
    both = {n for n in jd.__all__ if isinstance(getattr(torch_d, n, None), type)}
    composed = {"Distribution", "Independent", "MixtureSameFamily"}  # rows of their own
    assert both - composed == set(FAMILIES)


# name -> (class, parameters, value, truth); torch misses it by more than the bound
WRONG = {
    "Bernoulli, tiny probs": ("Bernoulli", {"probs": 1e-9}, 1.0, np.log(1e-9)),
    "Bernoulli, probs 0": ("Bernoulli", {"probs": 0.0}, 1.0, -np.inf),
    "Categorical, a probability of 0": ("Categorical", {"probs": [0.0, 1.0]}, 0.0, -np.inf),
    "StudentT, df 1e7": (
        "StudentT",
        {"df": 1e7, "loc": 0.0, "scale": 1.0},
        1.0,
        scipy.stats.t.logpdf(1.0, 1e7),
    ),
    "StudentT, far out": (
        "StudentT",
        {"df": 3.0, "loc": 0.0, "scale": 1.0},
        1e20,
        scipy.stats.t.logpdf(1e20, 3.0),
    ),
    "Cauchy, far out": (
        "Cauchy",
        {"loc": 0.0, "scale": 1.0},
        1e20,
        -np.log(np.pi) - 2.0 * np.log(1e20),
    ),
    "NegativeBinomial, large count": (
        "NegativeBinomial",
        {"total_count": 1e6, "probs": 1e-6},
        2.0,
        scipy.stats.nbinom.logpmf(2, 1e6, 1.0 - 1e-6),
    ),
    "NegativeBinomial, tiny probs": (
        "NegativeBinomial",
        {"total_count": 3.0, "probs": 1e-8},
        2.0,
        np.log(6.0) + 2.0 * np.log(1e-8) + 3.0 * np.log1p(-1e-8),
    ),
    "Binomial, 1e8 trials": (
        "Binomial",
        {"total_count": 1e8, "probs": 0.5},
        5e7,
        0.5 * np.log(2.0 / (np.pi * 1e8)),
    ),
    "Poisson, rate 1e6": ("Poisson", {"rate": 1e6}, 1e6, scipy.stats.poisson.logpmf(1e6, 1e6)),
    "Poisson, rate 1e10": ("Poisson", {"rate": 1e10}, 1e10, -0.5 * np.log(2e10 * np.pi)),
    "Gamma, concentration 1e5": (
        "Gamma",
        {"concentration": 1e5, "rate": 1e5},
        1.0,
        0.5 * np.log(1e5 / (2.0 * np.pi)),
    ),
    "Beta, both 1e5": (
        "Beta",
        {"concentration1": 1e5, "concentration0": 1e5},
        0.5,
        scipy.stats.beta.logpdf(0.5, 1e5, 1e5),
    ),
    "Weibull, steep": (
        "Weibull",
        {"scale": 1.0, "concentration": 50.0},
        0.1,
        np.log(50.0) + 49.0 * np.log(0.1),
    ),
    "Weibull, tiny value": (
        "Weibull",
        {"scale": 1.0, "concentration": 2.0},
        1e-30,
        np.log(2.0) + np.log(1e-30),
    ),
    "InverseGamma at 0": ("InverseGamma", {"concentration": 2.0, "rate": 1.0}, 0.0, -np.inf),
    "LogNormal at 0": ("LogNormal", {"loc": 0.0, "scale": 1.0}, 0.0, -np.inf),
    "Exponential below 0": ("Exponential", {"rate": 1.0}, -1.0, -np.inf),
    "Gamma below 0": ("Gamma", {"concentration": 2.0, "rate": 1.0}, -1.0, -np.inf),
    "Uniform at its upper end": ("Uniform", {"low": 0.0, "high": 1.0}, 1.0, 0.0),
    "Normal, huge scale": (
        "Normal",
        {"loc": 0.0, "scale": 1e20},
        1e20,
        -0.5 - np.log(1e20) - 0.5 * np.log(2.0 * np.pi),
    ),
    "Multinomial, counts of another total": (
        "Multinomial",
        {"total_count": 3, "probs": [0.5, 0.5]},
        [1.0, 1.0],
        -np.inf,
    ),
}


def _float32(parameters: dict, make) -> dict:
    return {n: v if isinstance(v, int) else make(v) for n, v in parameters.items()}


@pytest.mark.parametrize("name", WRONG)
def test_where_torch_is_wrong(name):
    """Float32, as most users have it; see the module's docstring."""
    family, parameters, x, truth = WRONG[name]
    with jd.unchecked():
        d = getattr(jd, family)(**_float32(parameters, jnp.float32))
        ours = float(d.log_prob(jnp.asarray(x, jnp.float32)))
    given = _float32(parameters, lambda v: torch.tensor(v, dtype=torch.float32))
    theirs = getattr(torch_d, family)(**given, validate_args=False).log_prob(torch.tensor(x))
    assert relative_error(ours, truth) <= BOUNDS["float32 truth"]
    assert relative_error(float(theirs), truth) > BOUNDS["torch is wrong"], "torch has mended this"


# name -> (function of (package, number), number, slope); torch's is another number or NaN
WRONG_SLOPES = {
    "Bernoulli, probs 1": (
        lambda d, p: d.Bernoulli(probs=p).log_prob(1.0 if d is jd else torch.tensor(1.0)),
        1.0,
        1.0,
    ),
    "VonMises, concentration 0": (
        lambda d, k: d.VonMises(0.0 * k, k).log_prob(1.0 if d is jd else torch.tensor(1.0)),
        0.0,
        np.cos(1.0),
    ),
    "StudentT, far out": (
        lambda d, s: d.StudentT(3.0, 0.0, s).log_prob(1e20 if d is jd else torch.tensor(1e20)),
        1.0,
        3.0,
    ),
    "KL of Bernoulli, logits": (
        lambda d, z: (
            jd.Bernoulli(logits=z).kl_divergence(jd.Bernoulli(logits=-z))
            if d is jd
            else torch_d.kl_divergence(torch_d.Bernoulli(logits=z), torch_d.Bernoulli(logits=-z))
        ),
        100.0,
        1.0,
    ),
}


@pytest.mark.parametrize("name", WRONG_SLOPES)
def test_where_torch_has_the_wrong_slope(name):
    function, at, truth = WRONG_SLOPES[name]
    ours = jax.grad(lambda number: function(jd, number))(jnp.float32(at))
    number = torch.tensor(at, requires_grad=True)
    with _unvalidated():
        function(torch_d, number).backward()
    assert relative_error(ours, truth) <= BOUNDS["float32 truth"]
    assert relative_error(number.grad.numpy(), truth) > BOUNDS["torch is wrong"]


class _unvalidated:  # noqa: N801
    """torch.distributions without checks, inside a `with` block."""

    def __enter__(self):
        torch_d.Distribution.set_default_validate_args(False)

    def __exit__(self, *_):
        torch_d.Distribution.set_default_validate_args(True)
