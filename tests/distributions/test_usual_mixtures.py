"""Dtypes that meet, components that do not count, classes made at run time: values by hand."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats
from tensorflow_probability.substrates.jax import distributions as tfd

import torch_ref.distributions as td
from jaxprob import distributions as jd

SHORT = jnp.float32


@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize(
    ("family", "parameters", "value", "right"),
    [
        ("Gamma", ([1.0, 0.5], [1.0, 1.0]), 0.0, 0.0),  # Exponential(1) at 0
        ("Beta", ([2.0, 0.5], [1.0, 0.5]), 1.0, np.log(2.0)),
        ("Gamma", ([2.0, 0.5], [1.0, 1.0]), 0.0, -np.inf),
    ],
)
def test_a_component_that_has_no_weight_has_no_density(given, family, parameters, value, right):
    weights = {"probs": [1.0, 0.0], "logits": [0.0, -np.inf]}[given]
    ours = jd.MixtureSameFamily(
        jd.Categorical(**{given: jnp.array(weights)}),
        getattr(jd, family)(*map(jnp.array, parameters)),
    )
    np.testing.assert_allclose(ours.log_prob(value), right, atol=1e-12)
    double = {"dtype": torch.float64}
    twin = td.MixtureSameFamily(
        td.Categorical(**{given: torch.tensor(weights, **double)}),
        getattr(td, family)(*(torch.tensor(p, **double) for p in parameters)),
    )
    found = twin.log_prob(torch.tensor(value, **double))
    np.testing.assert_allclose(float(found), right, atol=1e-12)


def test_counts_with_short_parameters_take_long_values():
    negative = jd.NegativeBinomial(SHORT(3.0), logits=SHORT(0.5))
    right = stats.nbinom(3, 1 - 1 / (1 + np.exp(-0.5))).cdf(1)
    np.testing.assert_allclose(negative.cdf(jnp.asarray(1.0)), right, rtol=1e-5)
    np.testing.assert_allclose(negative.prob_above(jnp.asarray(1.5)), 1 - right, rtol=1e-5)
    binomial = jd.Binomial(SHORT(9.0), logits=SHORT(0.5))
    values = jnp.array([0.0, 1.0, 5.0])
    right = stats.binom(9, 1 / (1 + np.exp(-0.5))).cdf(values)
    np.testing.assert_allclose(binomial.cdf(values), right, rtol=1e-5)
    low = jd.NegativeBinomial(jnp.bfloat16(3.0), logits=jnp.bfloat16(0.5))
    assert np.isfinite(low.cdf(SHORT(1.0)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_short_simplex_is_judged_by_its_own_rounding(dtype):
    dirichlet = jd.Dirichlet(jnp.full(3, 0.5, dtype))
    draws = dirichlet.sample(seed=jax.random.key(1), sample_shape=(50,))
    assert np.all(np.isfinite(dirichlet.log_prob(jnp.maximum(draws, 1e-4).astype(dtype))))
    with pytest.raises(ValueError, match="not NaN"):
        jd.Normal(jnp.asarray(jnp.nan, dtype), 1.0)


def test_a_class_that_a_wrapper_makes_is_its_librarys():
    inflated = tfd.ZeroInflatedNegativeBinomial(total_count=2.0, inflated_loc_probs=0.3, logits=0.2)
    with pytest.raises(ValueError, match="has no counterpart"):
        jd.convert(inflated)
    # its draws have a gradient that ours have not
    through = distrax.straight_through_wrapper(distrax.OneHotCategorical)(logits=jnp.zeros(3))
    with pytest.raises(ValueError, match="distrax's .* has no counterpart"):
        jd.convert(through)
