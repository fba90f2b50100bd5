"""The corners where torch.distributions, distrax or TFP lose all digits, or give NaN.

Each row states a case; the truth is computed by mpmath from the textbook formula, value and slopes.
"""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from jaxprob import distributions as jd
from tests.distributions import families as f

DTYPES = [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)]
mpf = mp.mpf


def relative(actual, expected):
    """Largest error relative to max(1, |expected|); equal infinities agree."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert not np.isnan(actual).any(), f"{actual}, expected {expected}"
    same = actual == expected
    with np.errstate(invalid="ignore"):
        gap = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.max(np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))))


# name -> (distribution of parameters, value, parameters, truth of (value, *parameters))
DENSITIES = {
    "VonMises(0, 100)": (jd.VonMises, 0.1, (0.0, 100.0), f.von_mises_log_prob),
    "VonMises(0, 713)": (jd.VonMises, 0.1, (0.0, 713.0), f.von_mises_log_prob),
    "VonMises(0, 1e6)": (jd.VonMises, 1e-3, (0.0, 1e6), None),
    "StudentT(1e4)": (jd.StudentT, 1.0, (1e4, 0.0, 1.0), f.student_log_prob),
    "StudentT(1e5)": (jd.StudentT, 1.0, (1e5, 0.0, 1.0), f.student_log_prob),
    "StudentT(1e6)": (jd.StudentT, 1.0, (1e6, 0.0, 1.0), f.student_log_prob),
    "StudentT(1e7)": (jd.StudentT, 1.0, (1e7, 0.0, 1.0), f.student_log_prob),
    "StudentT(1e20)": (jd.StudentT, 1.0, (1e20, 0.0, 1.0), f.student_log_prob),
    "StudentT(3) far out": (jd.StudentT, 1e20, (3.0, 0.0, 1.0), f.student_log_prob),
    "Cauchy far out": (jd.Cauchy, 1e20, (0.0, 1.0), f.FAMILIES["Cauchy"].log_prob),
    "NegativeBinomial(1e6)": (
        lambda n, p: jd.NegativeBinomial(n, probs=p), 2.0, (1e6, 1e-6),
        f.negative_binomial_log_prob,
    ),
    "NegativeBinomial(p = 1e-8)": (
        lambda n, p: jd.NegativeBinomial(n, probs=p), 2.0, (3.0, 1e-8),
        f.negative_binomial_log_prob,
    ),
    "Binomial(1e6)": (
        lambda n, p: jd.Binomial(n, probs=p), 5e5, (1e6, 0.5), f.binomial_log_prob
    ),
    "Binomial(1e8)": (
        lambda n, p: jd.Binomial(n, probs=p), 5e7, (1e8, 0.5), f.binomial_log_prob
    ),
    "Binomial at its end": (
        lambda n, p: jd.Binomial(n, probs=p), 20.0, (20.0, 0.8), f.binomial_log_prob
    ),
    "Binomial at 0": (lambda n, p: jd.Binomial(n, probs=p), 0.0, (20.0, 0.8), f.binomial_log_prob),
    "Poisson(1e5)": (jd.Poisson, 1e5, (1e5,), f.poisson_log_prob),
    "Poisson(1e6)": (jd.Poisson, 1e6, (1e6,), f.poisson_log_prob),
    "Poisson(1e10)": (jd.Poisson, 1e10, (1e10,), f.poisson_log_prob),
    "Gamma(1e4)": (jd.Gamma, 1.0, (1e4, 1e4), f.gamma_log_prob),
    "Gamma(1e5)": (jd.Gamma, 1.0, (1e5, 1e5), f.gamma_log_prob),
    "Beta(2, 2)": (jd.Beta, 0.5, (2.0, 2.0), f.FAMILIES["Beta"].log_prob),
    "Beta(1e5, 1e5)": (jd.Beta, 0.5, (1e5, 1e5), f.FAMILIES["Beta"].log_prob),
    "Beta(1e8, 2)": (jd.Beta, 1 - 2**-23, (1e8, 2.0), f.FAMILIES["Beta"].log_prob),
    "Weibull(k = 50)": (jd.Weibull, 0.1, (1.0, 50.0), f.FAMILIES["Weibull"].log_prob),
    "Weibull near 0": (jd.Weibull, 1e-30, (1.0, 2.0), f.FAMILIES["Weibull"].log_prob),
    "Bernoulli(1e-9)": (
        lambda p: jd.Bernoulli(probs=p), 1.0, (1e-9,), f.FAMILIES["Bernoulli"].log_prob
    ),
    "Bernoulli(1) at 1": (
        lambda p: jd.Bernoulli(probs=p), 1.0, (1.0,), lambda k, p: mp.log(p)
    ),
    "Bernoulli(0) at 0": (
        lambda p: jd.Bernoulli(probs=p), 0.0, (0.0,), lambda k, p: mp.log(1 - p)
    ),
    "Normal(0, 1e-20) at 0": (jd.Normal, 0.0, (0.0, 1e-20), f.normal_log_prob),
    "Normal(0, 1e20)": (jd.Normal, 1e20, (0.0, 1e20), f.normal_log_prob),
    "Laplace far out": (jd.Laplace, 1e30, (0.0, 1e28), f.FAMILIES["Laplace"].log_prob),
    "Exponential tiny rate": (jd.Exponential, 1e30, (1e-30,), f.FAMILIES["Exponential"].log_prob),
    "HalfNormal at 0": (jd.HalfNormal, 0.0, (1e-20,), f.FAMILIES["HalfNormal"].log_prob),
    "InverseGamma near 0": (
        jd.InverseGamma, 1e-3, (2.0, 1e-3), f.FAMILIES["InverseGamma"].log_prob
    ),
    "LogNormal near 0": (jd.LogNormal, 1e-30, (0.0, 10.0), f.FAMILIES["LogNormal"].log_prob),
    "Geometric(1) at 0": (lambda p: jd.Geometric(probs=p), 0.0, (1.0,), lambda k, p: mp.log(p)),
}  # fmt: skip


def stable_von_mises(x, loc, k):
    """With i0e's asymptotic series, where mpmath's besseli overflows its patience."""
    inverse = 1 / (8 * k)
    series = 1 + inverse + mpf(9) / 2 * inverse**2 + mpf(225) / 6 * inverse**3
    return k * (mp.cos(x - loc) - 1) - mp.log(2 * mp.pi) / 2 + mp.log(k) / 2 - mp.log(series)


@pytest.mark.parametrize("dtype", DTYPES)
def test_densities_and_slopes(dtype):
    """One pass over all rows, so that a failure names every row that is wrong."""
    rows = {
        name: (make, [float(dtype(v)) for v in (value, *parameters)], formula or stable_von_mises)
        for name, (make, value, parameters, formula) in DENSITIES.items()
    }

    @jax.jit
    def everything(arguments):
        return {
            name: jax.value_and_grad(
                lambda p, make=make, x=arguments[name][0]: make(*p).log_prob(x)
            )(arguments[name][1:])
            for name, (make, *_) in rows.items()
        }

    arguments = {name: [jnp.asarray(v, dtype) for v in row[1]] for name, row in rows.items()}
    computed = everything(arguments)
    wrong = []
    for name, (_, row, formula) in rows.items():
        log_prob, slopes = computed[name]
        exact = [mpf(v) for v in row]
        expected = float(formula(*exact))
        tolerance = 40 * np.finfo(dtype).eps
        if not relative(log_prob, expected) <= tolerance:
            wrong.append(f"{name}: log_prob {log_prob}, truth {expected}")
        for i, slope in enumerate(slopes):
            if name.startswith("Binomial") and i == 0:
                continue
            with mp.workdps(120):
                truth = float(one_sided(formula, exact, i + 1))
            # What one rounding of the parameter does to the density, over that rounding.
            scale = (1.0 + abs(expected)) / abs(row[i + 1]) if row[i + 1] else 1.0
            top, got = float(np.finfo(dtype).max), float(slope)
            fits = abs(got - truth) <= 40 * tolerance * max(abs(truth), scale)
            if not fits and not (abs(truth) > top and abs(got) >= 0.9 * top):
                wrong.append(f"{name}: slope towards parameter {i} {got}, truth {truth}")
    assert not wrong, "\n".join(wrong)


def one_sided(formula, row, at):
    """Derivative; at the end of a parameter's range the one towards its inside."""
    step = mpf(10) ** -30 * max(abs(row[at]), mpf(10) ** -25)

    def moved(by):
        return formula(*row[:at], row[at] + by * step, *row[at + 1 :])

    if row[at] == 1:
        return (3 * moved(0) - 4 * moved(-1) + moved(-2)) / (2 * step)
    if row[at] == 0:
        return (-3 * moved(0) + 4 * moved(1) - moved(2)) / (2 * step)
    return (moved(1) - moved(-1)) / (2 * step)


# name -> (function of a parameter vector, vector, truth, gradient or None)
EDGES = {
    "VonMises(k = 0), slope": (
        lambda p: jd.VonMises(0.0, p[0]).log_prob(1.0), [0.0], -mp.log(2 * mp.pi), [mp.cos(1)]
    ),
    "Gamma(1, 1) at 0": (
        lambda p: jd.Gamma(p[0], p[1]).log_prob(0.0), [1.0, 1.0], 0, [-mp.inf, 1.0]
    ),
    "Gamma(2, 1) at 0": (lambda p: jd.Gamma(p[0], p[1]).log_prob(0.0), [2.0, 1.0], -mp.inf, None),
    "Exponential at 0": (lambda p: jd.Exponential(p[0]).log_prob(0.0), [1.0], 0, [1.0]),
    "Beta(1, 1) at 0": (
        lambda p: jd.Beta(p[0], p[1]).log_prob(0.0), [1.0, 1.0], 0, [-mp.inf, 1.0]
    ),
    "Beta(1, 1) at 1": (
        lambda p: jd.Beta(p[0], p[1]).log_prob(1.0), [1.0, 1.0], 0, [1.0, -mp.inf]
    ),
    "Beta(2, 2) at 0": (lambda p: jd.Beta(p[0], p[1]).log_prob(0.0), [2.0, 2.0], -mp.inf, None),
    "Dirichlet(1, 1, 1) on a face": (
        lambda p: jd.Dirichlet(p).log_prob(jnp.asarray([0.0, 0.5, 0.5], p.dtype)),
        [1.0, 1.0, 1.0], mp.log(2), None,
    ),
    "InverseGamma at 0": (
        lambda p: jd.InverseGamma(p[0], p[1]).log_prob(0.0), [1.0, 1.0], -mp.inf, [0.0, 0.0]
    ),
    "LogNormal at 0": (
        lambda p: jd.LogNormal(p[0], p[1]).log_prob(0.0), [0.0, 1.0], -mp.inf, [0.0, 0.0]
    ),
    "Weibull(2) at 0": (
        lambda p: jd.Weibull(p[0], p[1]).log_prob(0.0), [1.0, 2.0], -mp.inf, None
    ),
    "Weibull(1) at 0": (
        lambda p: jd.Weibull(p[0], p[1]).log_prob(0.0), [2.0, 1.0], -mp.log(2), None
    ),
    "Bernoulli(0) at 1": (lambda p: jd.Bernoulli(probs=p[0]).log_prob(1), [0.0], -mp.inf, None),
    "Bernoulli(logit 100) at 0": (
        lambda p: jd.Bernoulli(logits=p[0]).log_prob(0), [100.0], -100, [-1.0]
    ),
    "Categorical([0, 1]) at 0": (
        lambda p: jd.Categorical(probs=p).log_prob(0), [0.0, 1.0], -mp.inf, None
    ),
    "Categorical([0, 1]) at 1": (  # normalised: log p_1 - log(p_0 + p_1)
        lambda p: jd.Categorical(probs=p).log_prob(1), [0.0, 1.0], 0, [-1.0, 0.0]
    ),
    "Categorical of logits with -inf": (
        lambda p: jd.Categorical(logits=p).log_prob(0), [0.0, -np.inf, 0.0], -mp.log(2),
        [0.5, 0.0, -0.5],
    ),
    "KL of Bernoulli, logits 100 and -100": (
        lambda p: jd.Bernoulli(logits=p[0]).kl_divergence(jd.Bernoulli(logits=p[1])),
        [100.0, -100.0], 100, [0.0, -1.0],
    ),
    "KL of Categorical, same support": (
        lambda p: jd.Categorical(logits=p).kl_divergence(
            jd.Categorical(logits=jnp.asarray([1.0, -jnp.inf, 0.0], p.dtype))
        ),
        [0.0, -np.inf, 1.0],
        # p = s(-1), s(1) against s(1), s(-1): the KL is tanh(1/2)
        mp.tanh(mpf(1) / 2),
        "centred",
    ),
    "KL of Categorical(probs) with a zero": (
        lambda p: jd.Categorical(probs=p).kl_divergence(
            jd.Categorical(probs=jnp.asarray([0.2, 0.3, 0.5], p.dtype))
        ),
        [0.0, 0.3, 0.7], mpf("0.7") * mp.log(mpf(7) / 5), None,
    ),
    "entropy of Categorical(probs) with a zero": (
        lambda p: jd.Categorical(probs=p).entropy(), [0.0, 0.3, 0.7],
        -mpf("0.3") * mp.log(mpf("0.3")) - mpf("0.7") * mp.log(mpf("0.7")), None,
    ),
    "mixture with weights [1, 0]": (
        lambda p: jd.MixtureSameFamily(
            jd.Categorical(probs=p), jd.Normal(jnp.asarray([0.0, 1.0], p.dtype), 1.0)
        ).log_prob(jnp.asarray(0.0, p.dtype)),
        [1.0, 0.0],
        -mp.log(2 * mp.pi) / 2,
        # log(w_0 f_0 + w_1 f_1) - log(w_0 + w_1)
        [0.0, mp.exp(-mpf(1) / 2) - 1],
    ),
    "mixture with logits [0, -inf]": (
        lambda p: jd.MixtureSameFamily(
            jd.Categorical(logits=p), jd.Normal(jnp.asarray([0.0, 1.0], p.dtype), 1.0)
        ).log_prob(jnp.asarray(0.0, p.dtype)),
        [0.0, -np.inf], -mp.log(2 * mp.pi) / 2, [0.0, 0.0],
    ),
    "mixture without any density": (
        lambda p: jd.MixtureSameFamily(
            jd.Categorical(logits=jnp.zeros(2, p.dtype)), jd.Uniform(p, p + 1.0)
        ).log_prob(jnp.asarray(9.0, p.dtype)),
        [0.0, 1.0], -mp.inf, [0.0, 0.0],
    ),
    "mixture of densities of exp(-5e19)": (
        lambda p: jd.MixtureSameFamily(
            jd.Categorical(logits=jnp.zeros(2, p.dtype)), jd.Normal(p, 1.0)
        ).log_prob(jnp.asarray(1e10, p.dtype)) / 1e10,
        [0.0, 0.0], mpf(-5e9), [0.5, 0.5],
    ),
    "Normal(0, 1e-20) at 0, slope of the value": (
        lambda p: jd.Normal(0.0, p[1]).log_prob(p[0]),
        [0.0, 1e-20],
        -mp.log(2 * mp.pi) / 2 + 20 * mp.log(10),
        [0.0, -1e20],
    ),
    "StudentT far out, slopes": (
        lambda p: jd.StudentT(3.0, p[0], p[1]).log_prob(jnp.asarray(1e20, p.dtype)), [0.0, 1.0],
        f.student_log_prob(mpf(1e20), mpf(3), mpf(0), mpf(1)), [4e-20, 3.0],
    ),
    "Laplace at its kink": (  # a subgradient, the middle one
        lambda p: jd.Laplace(p[0], 1.0).log_prob(0.0), [0.0], -mp.log(2), [0.0]
    ),
    "Uniform at its upper end": (  # closed, as in distrax and TFP
        lambda p: jd.Uniform(p[0], p[1]).log_prob(1.0), [0.0, 1.0], 0, [1.0, -1.0]
    ),
    "Multinomial with a class excluded": (
        lambda p: jd.Multinomial(2.0, probs=p).log_prob(jnp.asarray([0.0, 1.0, 1.0], p.dtype)),
        [0.0, 0.5, 0.5], -mp.log(2), [-2.0, 0.0, 0.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype):
    points = {name: jnp.asarray(row[1], dtype) for name, row in EDGES.items()}
    computed = jax.jit(
        lambda points: {
            name: jax.value_and_grad(row[0])(points[name]) for name, row in EDGES.items()
        }
    )(points)
    wrong = []
    for name, (_, _, value, gradient) in EDGES.items():
        got, slope = computed[name]
        slope = np.asarray(slope, float)
        tolerance = 40 * np.finfo(dtype).eps
        if np.isnan(got) or relative(got, float(value)) > tolerance:
            wrong.append(f"{name}: {got}, truth {float(value)}")
        if np.isnan(slope).any():
            wrong.append(f"{name}: gradient {slope}")
        elif gradient == "centred":
            if not (np.isfinite(slope).all() and abs(slope.sum()) < 1e-6):
                wrong.append(f"{name}: gradient {slope}, which should be finite and sum to 0")
        elif gradient is not None:
            truth = np.array([float(g) for g in gradient])
            if relative(slope, truth) > tolerance:
                wrong.append(f"{name}: gradient {slope}, truth {truth}")
    assert not wrong, "\n".join(wrong)


def test_off_the_support_is_minus_infinity_with_slope_0():
    """With the checks off; with them on each raises."""
    cases = {
        "Gamma": (jd.Gamma(2.0, 1.0), -1.0), "Beta": (jd.Beta(2.0, 2.0), -0.1),
        "Exponential": (jd.Exponential(1.0), -1.0), "Bernoulli": (jd.Bernoulli(probs=0.5), 2.0),
        "Bernoulli of 0.3": (jd.Bernoulli(probs=0.5), 0.3), "Uniform": (jd.Uniform(0.0, 1.0), 1.5),
        "Poisson": (jd.Poisson(1.0), 0.5), "Multinomial": (
            jd.Multinomial(2.0, probs=jnp.ones(2) / 2), jnp.asarray([1.0, 0.0])),
        "Categorical": (jd.Categorical(probs=jnp.ones(2) / 2), 7.0),
        "LogNormal": (jd.LogNormal(0.0, 1.0), -1.0), "Dirichlet": (
            jd.Dirichlet(jnp.ones(2)), jnp.asarray([0.5, 0.9])),
    }  # fmt: skip
    for name, (distribution, value) in cases.items():
        with pytest.raises(ValueError, match="value must be"):
            distribution.log_prob(value)
        with jd.unchecked():
            got, slope = jax.value_and_grad(lambda x, d=distribution: d.log_prob(x))(value)
        assert got == -np.inf, f"{name}: {got}"
        assert np.all(np.asarray(slope) == 0.0), f"{name}: {slope}"


def test_kl_to_a_needle():
    """KL(N(0, 1) || N(0, 1e-20)) = 5e39 in float64; in float32 it is out of range."""
    for dtype, expected in ((np.float64, 5e39), (np.float32, np.inf)):
        needle = jd.Normal(dtype(0.0), dtype(1e-20))
        np.testing.assert_allclose(
            jd.Normal(dtype(0.0), dtype(1.0)).kl_divergence(needle), expected, rtol=1e-12
        )


def test_log_cdf_of_the_normal_near_1():
    for x, rtol in ((7.0, 1e-14), (8.0, 1e-14), (30.0, 1e-12)):
        expected = float(mp.log1p(-mp.erfc(mpf(x) / mp.sqrt(2)) / 2))
        np.testing.assert_allclose(jd.Normal(0.0, 1.0).log_cdf(x), expected, rtol=rtol)
        np.testing.assert_allclose(
            jd.Normal(0.0, 1.0).log_survival_function(-x), expected, rtol=rtol
        )


def test_upper_ends_of_intervals_in_float32():
    """1 - 1e-7 is not a float32 number, the upper end of that interval is."""
    tail = 1e-7
    upper = jd.Normal(np.float32(0.0), np.float32(1.0)).interval(1 - 2 * tail)[1]
    np.testing.assert_allclose(upper, float(mp.sqrt(2) * mp.erfinv(1 - 2 * mpf(tail))), rtol=1e-6)
    upper = jd.Exponential(np.float32(1.0)).interval(1 - 2 * tail)[1]
    np.testing.assert_allclose(upper, -np.log(tail), rtol=1e-6)
    upper = jd.Cauchy(np.float32(0.0), np.float32(1.0)).inverse_survival_function(1e-20)
    np.testing.assert_allclose(upper, 1e20 / np.pi, rtol=1e-6)


def two_normals(gap, dtype=np.float64):
    weights = jd.Categorical(logits=jnp.zeros(2, dtype))
    return jd.MixtureSameFamily(weights, jd.Normal(jnp.asarray([-gap, gap], dtype), 1.0))


def test_median_in_a_gap():
    """Every point between the two has cdf 1/2; the middle is returned, with a finite slope."""
    for dtype in (np.float32, np.float64):
        assert abs(two_normals(50.0, dtype).median()) < 10.0
        slope = jax.grad(lambda g: two_normals(g).quantile(0.5))(50.0)
        assert np.isfinite(slope)


def test_second_derivatives_of_a_mixture_quantile():
    """d2x/dq2 = -p'(x) / p(x)^3, by the implicit function theorem."""
    mixture, q = two_normals(1.0), 0.3
    x = mixture.quantile(q)
    density, slope = mixture.prob(x), jax.grad(mixture.prob)(x)
    np.testing.assert_allclose(jax.grad(mixture.quantile)(q), 1 / density, rtol=1e-10)
    second = jax.grad(jax.grad(mixture.quantile))(q)
    np.testing.assert_allclose(second, -slope / density**3, rtol=1e-9)


def test_modes_at_the_ends():
    assert jd.Gamma(0.5, 1.0).mode() == 0.0
    assert jd.Beta(0.5, 2.0).mode() == 0.0
    assert jd.Beta(2.0, 0.5).mode() == 1.0
    assert jd.Exponential(3.0).mode() == 0.0


def test_quantile_inverts_the_cdf_of_counts():
    """1 - cdf(k) is rounded to the precision of 1, and must not push the answer to k + 1."""
    for dtype in (np.float32, np.float64):
        k = jnp.arange(6, dtype=dtype)
        for distribution in (jd.Poisson(dtype(1.0)), jd.Geometric(probs=dtype(0.6))):
            np.testing.assert_array_equal(distribution.quantile(distribution.cdf(k)), k)
            assert distribution.quantile(1.0) == np.inf
