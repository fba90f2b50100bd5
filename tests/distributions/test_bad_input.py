"""Each constraint of each class, broken: the error says what, how often, where and how to mend it.

Eagerly, and inside compiled code through `checked`; with `unchecked` there is none.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import distributions as jd
from tests.distributions.examples import GOOD, UNIT

KEY = jax.random.key(0)
NAN = np.nan
POSITIVE = ("scale", "df", "rate", "concentration", "concentration1", "concentration0",
            "temperature", "scale_diag", "cov_diag")  # fmt: skip


def quick_or_slow(name):
    """A few classes compile in the quick run, all of them in the slow one."""
    quick = name in ("Normal", "Categorical", "Binomial", "Dirichlet", "Uniform")
    return name if quick else pytest.param(name, marks=pytest.mark.slow)


def broken(value, by):
    """The same parameter with its first entry replaced."""
    array = np.array(value, float)
    array.flat[0] = by
    return array


def bad_parameters():
    for name, (_, parameters, _) in GOOD.items():
        for parameter, value in parameters.items():
            yield name, parameter, broken(value, NAN), "nan"
            if parameter in POSITIVE:
                yield name, parameter, broken(value, -1.5), "-1.5"
            if parameter in POSITIVE and (name, parameter) not in (
                ("VonMises", "concentration"), ("Poisson", "rate"), ("ZeroInflated", "rate"),
            ):  # fmt: skip
                yield name, parameter, broken(value, 0.0), "0.0"
            if parameter == "probs":
                yield name, parameter, broken(value, -0.25), "-0.25"
                if np.ndim(value) == 0:
                    yield name, parameter, broken(value, 1.25), "1.25"
            if parameter == "total_count":
                yield name, parameter, broken(value, -2.0), "-2.0"
                if name != "NegativeBinomial":
                    yield name, parameter, broken(value, 2.5), "2.5"
    yield "Uniform", "high", np.array(-1.0), "-1.0"
    yield "Categorical", "probs", broken(UNIT, np.inf), "inf"
    yield "MultivariateNormal", "scale_tril", np.array([[1.0, 0.5], [0.0, 1.0]]), "lower triangular"
    yield "MultivariateNormal", "scale_tril", np.zeros((2, 2)), "positive diagonal"


OFF_SUPPORT = {
    "LogNormal": (-1.0, NAN), "Gamma": (-1.0, NAN), "InverseGamma": (-1.0,), "Exponential": (-1.0,),
    "HalfNormal": (-1.0,), "Weibull": (-1.0,), "Beta": (-0.1, 1.1), "Uniform": (-0.1, 1.1),
    "Poisson": (-1.0, 0.5), "NegativeBinomial": (-1.0, 0.5), "Binomial": (-1.0, 0.5, 6.0),
    "Geometric": (-1.0, 0.5), "Bernoulli": (2.0, 0.3), "Categorical": (3.0, -1.0, 0.5),
    "OneHotCategorical": ([1.0, 1.0, 0.0], [0.5, 0.5, 0.0]),
    "Multinomial": ([1.0, 1.0, 0.0], [2.5, 0.5, 0.0], [4.0, -1.0, 0.0]),
    "RelaxedBernoulli": (1.5,), "RelaxedOneHotCategorical": ([0.5, 0.5, 0.0], [0.5, 0.5, 0.5]),
    "Dirichlet": ([0.5, 0.5, 0.5], [1.5, -0.5, 0.0]), "ZeroInflated": (-1.0, 0.5),
    "Quantized": (0.5, 9.0), "Normal": (NAN,), "StudentT": (NAN,), "Laplace": (NAN,),
    "Cauchy": (NAN,), "Logistic": (NAN,), "Gumbel": (NAN,), "VonMises": (NAN,),
    "MultivariateNormal": ([NAN, 0.0],), "MultivariateNormalDiag": ([NAN, 0.0],),
    "LowRankMultivariateNormal": ([NAN, 0.0],), "Independent": ([NAN, 0.0],),
    "MixtureSameFamily": (-1.0, NAN), "Transformed": (NAN,), "Deterministic": (NAN,),
}  # fmt: skip


@contextlib.contextmanager
def complaint(words):
    """A ValueError that holds every one of the words."""
    with pytest.raises(ValueError, match=".") as caught:
        yield
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


def test_there_are_enough_of_them():
    parameters = list(bad_parameters())
    assert len(parameters) + sum(map(len, OFF_SUPPORT.values())) >= 150
    assert {row[0] for row in parameters} == set(GOOD) == set(OFF_SUPPORT)


@pytest.mark.parametrize("name", GOOD)
def test_bad_parameters(name):
    make, parameters, _ = GOOD[name]
    rows = [row for row in bad_parameters() if row[0] == name]
    for _, parameter, bad, shown in rows:
        with complaint((parameter, "must be", "break this", "first at index", shown)):
            make(**(parameters | {parameter: bad}))
        with jd.unchecked():
            make(**(parameters | {parameter: bad}))


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in GOOD])
def test_bad_parameters_in_compiled_code(name):
    """One program, fed each bad row in turn."""
    make, parameters, _ = GOOD[name]
    rows = [row for row in bad_parameters() if row[0] == name]

    @jd.checked
    def construct(arrays):
        return jax.tree.leaves(make(**arrays))

    good = {key: jnp.asarray(value, float) for key, value in parameters.items()}
    construct(good)
    for _, parameter, bad, _ in rows:
        with complaint((parameter, "must be", "break this", "first at flat index")):
            construct(good | {parameter: jnp.asarray(bad)})


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in OFF_SUPPORT])
def test_values_off_the_support(name):
    make, parameters, good = GOOD[name]
    distribution = make(**parameters)
    density = jd.checked(lambda x: make(**parameters).log_prob(x))
    assert np.isfinite(density(jnp.asarray(good)))
    for bad in OFF_SUPPORT[name]:
        with complaint(("value must be", "break this", "first at index")):
            distribution.log_prob(jnp.asarray(bad))
        with complaint(("value must be", "break this", "first at flat index")):
            density(jnp.asarray(bad))
        with jd.unchecked():
            got = distribution.log_prob(jnp.asarray(bad))
        assert np.isnan(got) if np.isnan(bad).any() else got == -np.inf


@pytest.mark.parametrize("name", GOOD)
def test_wrong_dtypes_and_shapes(name):
    make, parameters, good = GOOD[name]
    distribution = make(**parameters)
    first, value = next(iter(parameters.items()))
    with complaint((first, "dtype complex", "real")):
        make(**(parameters | {first: np.asarray(value) * 1j}))
    with complaint(("value", "dtype complex")):
        distribution.log_prob(np.asarray(good) * 1j)
    if distribution.event_shape:
        shape = (distribution.event_shape[0] + 3,)
        with complaint((str(shape), f"event_shape {distribution.event_shape}")):
            distribution.log_prob(np.ones(shape))
    batched = {key: np.stack([np.asarray(v, float)] * 3) for key, v in parameters.items()}
    shape = (2, *distribution.event_shape)
    with complaint((str(shape), "batch_shape")):
        make(**batched).log_prob(np.ones(shape))
    if len(parameters) > 1:
        last = list(parameters)[-1]
        batched[last] = batched[last][:2]
        with complaint((str(batched[last].shape), str(batched[first].shape))):
            make(**batched)


NOT_REPARAMETERIZED = ("Poisson", "NegativeBinomial", "Binomial", "Geometric", "Bernoulli",
                       "Categorical", "OneHotCategorical", "Multinomial", "ZeroInflated",
                       "Quantized", "MixtureSameFamily")  # fmt: skip


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in GOOD])
def test_rsample_promises_a_gradient(name):
    make, parameters, _ = GOOD[name]
    distribution, key = make(**parameters), jax.random.key(0)
    if name in NOT_REPARAMETERIZED:
        with pytest.raises(NotImplementedError, match=r"score-function|score_function"):
            distribution.rsample(seed=key)
    else:
        np.testing.assert_array_equal(distribution.rsample(seed=key), distribution.sample(seed=key))


@pytest.mark.parametrize("name", [n for n, (_, p, _) in GOOD.items() if "probs" in p])
def test_logits_or_probs_but_not_both(name):
    make, parameters, _ = GOOD[name]
    with complaint(("either logits or probs", "both")):
        make(**parameters, logits=parameters["probs"])
    with complaint(("either logits or probs", "none")):
        make(**{key: value for key, value in parameters.items() if key != "probs"})


@pytest.mark.parametrize("name", ["Categorical", "OneHotCategorical", "Multinomial"])
@pytest.mark.parametrize(("parameter", "excluded"), [("probs", 0.0), ("logits", -np.inf)])
def test_a_row_without_any_class(name, parameter, excluded):
    rows = np.array([[1.0, 1.0], [excluded, excluded]])
    first = {"total_count": 1.0} if name == "Multinomial" else {}
    with complaint((parameter, "at least one class", "1 of 2", "index (1,)", "mask")):
        getattr(jd, name)(**first, **{parameter: rows})


@pytest.mark.parametrize("dtype", [jnp.complex64, "words"], ids=str)
@pytest.mark.parametrize("family", [jd.Bernoulli, jd.Categorical, jd.OneHotCategorical])
def test_draws_have_a_dtype_of_numbers(family, dtype):
    with complaint((family.__name__, "dtype must be", "jnp.int32")):
        family(probs=np.array([0.5, 0.5]), dtype=dtype)
    assert family(probs=np.array([0.5, 0.5]), dtype=jnp.float32).sample(seed=KEY).dtype == "float32"
