"""KL divergences in closed form against quadrature and sums, for every pair that has one.

KL(p || q) = E_p[log p - log q]. For numbers the expectation is an integral over the probability u,
x = p.ppf(u), by the tanh-sinh rule, all of it with SciPy's distributions; for counts a sum.
"""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

from jaxprob import distributions as jd


def twice(ours, theirs, *parameters):
    """Two members of a family, each as ours and as SciPy's."""
    return [(ours(*p), theirs(*p)) for p in parameters]


CONTINUOUS = {
    "Normal": twice(jd.Normal, st.norm, (0.3, 1.2), (-1.0, 0.7)),
    "StudentT": twice(jd.StudentT, st.t, (5.0, 0.2, 1.5), (3.5, -1.0, 0.8)),
    "Laplace": twice(jd.Laplace, st.laplace, (0.5, 1.3), (-0.4, 0.6)),
    "Cauchy": twice(jd.Cauchy, st.cauchy, (0.5, 1.3), (-0.4, 0.6)),
    "Logistic": twice(jd.Logistic, st.logistic, (0.5, 1.3), (-0.4, 0.6)),
    "Gumbel": twice(jd.Gumbel, st.gumbel_r, (0.5, 1.3), (-0.4, 0.9)),
    "LogNormal": twice(
        jd.LogNormal, lambda m, s: st.lognorm(s, scale=np.exp(m)), (0.2, 0.5), (-0.3, 0.8)
    ),
    "Gamma": twice(jd.Gamma, lambda a, b: st.gamma(a, scale=1 / b), (2.5, 1.3), (0.7, 0.6)),
    "InverseGamma": twice(
        jd.InverseGamma, lambda a, b: st.invgamma(a, scale=b), (4.5, 1.3), (2.7, 0.6)
    ),
    "Exponential": twice(jd.Exponential, lambda b: st.expon(scale=1 / b), (1.4,), (0.5,)),
    "HalfNormal": twice(jd.HalfNormal, lambda s: st.halfnorm(scale=s), (1.4,), (0.5,)),
    "Weibull": twice(jd.Weibull, lambda s, k: st.weibull_min(k, scale=s), (1.4, 2.2), (0.5, 0.9)),
    "Beta": twice(jd.Beta, st.beta, (2.5, 0.8), (1.3, 4.0)),
    "Uniform": twice(jd.Uniform, lambda a, b: st.uniform(a, b - a), (0.2, 0.9), (0.0, 1.0)),
}
COUNTS = {
    "Poisson": twice(jd.Poisson, st.poisson, (2.5,), (7.0,)),
    "Bernoulli": twice(lambda p: jd.Bernoulli(probs=p), st.bernoulli, (0.3,), (0.85,)),
    "Geometric": twice(
        lambda p: jd.Geometric(probs=p), lambda p: st.geom(p, loc=-1), (0.3,), (0.6,)
    ),
    "Binomial": twice(lambda n, p: jd.Binomial(n, probs=p), st.binom, (9.0, 0.3), (9.0, 0.6)),
    "NegativeBinomial": twice(
        lambda n, p: jd.NegativeBinomial(n, probs=p), lambda n, p: st.nbinom(n, 1 - p),
        (3.5, 0.3), (3.5, 0.6),
    ),
}  # fmt: skip


def by_quadrature(p, q):
    """E_p[log p - log q] for two of SciPy's continuous distributions."""
    t = np.linspace(-4.5, 4.5, 1801)
    below, above = sp.expit(np.pi * np.sinh(t)), sp.expit(-np.pi * np.sinh(t))
    weight = below * above * np.pi * np.cosh(t) * (t[1] - t[0])
    # A density with a kink is integrated on either side of it, all others around the median.
    kinks = [d.args[0] for d in (p, q) if d.dist.name == "laplace"]
    knots = np.unique([0.0, 0.5, 1.0, *p.cdf(kinks)])
    total = 0.0
    for low, high in itertools.pairwise(knots):
        with np.errstate(all="ignore"):
            x = p.isf((1 - low) * above) if high == 1 else p.ppf(low + (high - low) * below)
            log_p = p.logpdf(x)
            gap = log_p - q.logpdf(x)
        counts = (weight > 1e-60) & np.isfinite(x) & np.isfinite(log_p) & (x != 0)  # underflow
        total += (high - low) * (weight * gap)[counts].sum()
    return total


def by_sum(p, q):
    k = np.arange(600)
    probs = p.pmf(k)
    k, probs = k[probs > 0], probs[probs > 0]
    return (probs * (p.logpmf(k) - q.logpmf(k))).sum()


def pairs(table, by_oracle):
    """Pairs that have a closed form: their names, our divergence, the oracle's."""
    found = []
    for (p_name, p), (q_name, q) in itertools.product(table.items(), repeat=2):
        (ours, oracle), (other, of_other) = p[0], q[1]
        try:
            divergence = ours.kl_divergence(other)
        except NotImplementedError:
            continue
        found.append((f"{p_name}, {q_name}", divergence, by_oracle(oracle, of_other)))
    return found


def test_continuous_pairs():
    found = pairs(CONTINUOUS, by_quadrature)
    assert len(found) >= 38, f"only {len(found)} pairs have a closed form"
    for name, ours, truth in found:
        np.testing.assert_allclose(ours, truth, rtol=1e-8, err_msg=name)


def test_count_pairs():
    found = pairs(COUNTS, by_sum)
    assert len(found) == len(COUNTS)
    for name, ours, truth in found:
        np.testing.assert_allclose(ours, truth, rtol=1e-10, err_msg=name)


def test_von_mises():
    p, q = st.vonmises(2.5, 0.7), st.vonmises(0.8, -1.2)
    x = np.linspace(-np.pi, np.pi, 4000, endpoint=False)  # spectral accuracy: periodic
    truth = (p.pdf(x) * (p.logpdf(x) - q.logpdf(x))).sum() * (x[1] - x[0])
    ours = jd.VonMises(0.7, 2.5).kl_divergence(jd.VonMises(-1.2, 0.8))
    np.testing.assert_allclose(ours, truth, rtol=1e-12)


def test_classes():
    a, b = np.array([0.2, -1.0, 1.5]), np.array([-0.3, 0.4, 0.1])
    p, q = sp.softmax(a), sp.softmax(b)
    one_draw = (p * np.log(p / q)).sum()
    for make in (jd.Categorical, jd.OneHotCategorical):
        np.testing.assert_allclose(
            make(logits=a).kl_divergence(make(logits=b)), one_draw, rtol=1e-13
        )
    counts = np.array([c for c in itertools.product(range(6), repeat=3) if sum(c) == 5])
    ours = jd.Multinomial(5.0, logits=a).kl_divergence(jd.Multinomial(5.0, logits=b))
    log_p, log_q = st.multinomial(5, p).logpmf(counts), st.multinomial(5, q).logpmf(counts)
    np.testing.assert_allclose(ours, (np.exp(log_p) * (log_p - log_q)).sum(), rtol=1e-12)


def normals():
    rng = np.random.default_rng(3)
    found = {}
    for i in (0, 1):
        loc, factor = rng.normal(size=3), rng.normal(size=(3, 2))
        diagonal = rng.uniform(0.4, 2.0, 3)
        tril = np.tril(rng.normal(size=(3, 3)), -1) + np.diag(diagonal)
        found[f"full {i}"] = jd.MultivariateNormal(loc, tril), loc, tril @ tril.T
        found[f"diagonal {i}"] = jd.MultivariateNormalDiag(loc, diagonal), loc, np.diag(diagonal**2)
        low_rank = jd.LowRankMultivariateNormal(loc, factor, diagonal)
        found[f"low rank {i}"] = low_rank, loc, factor @ factor.T + np.diag(diagonal)
    return found


@pytest.mark.parametrize("p_name", normals())
def test_multivariate_normals(p_name):
    # Gauss-Hermite nodes integrate the quadratic log p - log q exactly.
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.array(list(itertools.product(nodes, repeat=3)))
    weight = np.prod(list(itertools.product(weights / weights.sum(), repeat=3)), axis=-1)
    p, loc, covariance = normals()[p_name]
    x = loc + grid @ np.linalg.cholesky(covariance).T
    for q_name, (q, *theirs) in normals().items():
        gap = st.multivariate_normal(loc, covariance).logpdf(x)
        gap = gap - st.multivariate_normal(*theirs).logpdf(x)
        truth = weight @ gap
        np.testing.assert_allclose(
            p.kl_divergence(q), truth, rtol=1e-11, atol=1e-12, err_msg=f"{p_name}, {q_name}"
        )


def test_dirichlet():
    a, b = np.array([0.7, 2.5, 1.4]), np.array([1.9, 0.8, 3.0])
    # x_1 ~ Beta(a_1, a_2 + a_3) and x_2 / (1 - x_1) ~ Beta(a_2, a_3) are independent.
    t = np.linspace(-4.0, 4.0, 401)
    u = sp.expit(np.pi * np.sinh(t))
    weight = u * (1 - u) * np.pi * np.cosh(t) * (t[1] - t[0])

    def nodes(beta):
        """A variable and its complement at the nodes, both without cancellation."""
        return beta.ppf(u), st.beta(*beta.args[::-1]).ppf(1 / (1 + np.exp(np.pi * np.sinh(t))))

    first, rest = nodes(st.beta(a[0], a[1] + a[2]))
    second, third = nodes(st.beta(a[1], a[2]))
    one = np.ones_like(u)
    log_x = np.log([np.outer(first, one), np.outer(rest, second), np.outer(rest, third)])

    def log_density(a):
        return sp.gammaln(a.sum()) - sp.gammaln(a).sum() + np.tensordot(a - 1, log_x, 1)

    truth = np.einsum("i,j,ij", weight, weight, log_density(a) - log_density(b))
    ours = jd.Dirichlet(a).kl_divergence(jd.Dirichlet(b))
    np.testing.assert_allclose(ours, truth, rtol=1e-9)


def test_monte_carlo_estimate_is_within_its_error():
    p, q = jd.Normal(jnp.zeros(200), 1.0), jd.Normal(0.5, 1.3)
    estimate, error = jd.monte_carlo_kl(p, q, jax.random.key(0), 2000)
    z = (estimate - p.kl_divergence(q)) / error
    assert 0.8 < float(jnp.std(z)) < 1.2
    assert abs(float(jnp.mean(z))) < 0.3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ratio", [1e-7, 2e-4, 1e-3, 0.7, 0.9999, 1.0, 1.0001, 1.5, 1e5])
def test_normals_of_any_two_scales(ratio, dtype):
    """(r^2 - 1) / 2 - log r and its slope r - 1 / r, from posteriors of a point to wide ones."""

    def kl(scale):
        return jd.Normal(jnp.zeros((), dtype), scale).kl_divergence(
            jd.Normal(jnp.zeros((), dtype), jnp.ones((), dtype))
        )

    r = jnp.asarray(ratio, dtype)
    value, slope = jax.value_and_grad(kl)(r)
    exact = float(r)
    digits = 20 * float(jnp.finfo(dtype).eps)
    with mpmath.workdps(50):
        expected = float((mpmath.mpf(exact) ** 2 - 1) / 2 - mpmath.log(exact))
    np.testing.assert_allclose(value, expected, rtol=digits)
    np.testing.assert_allclose(slope, (exact - 1.0) * (exact + 1.0) / exact, rtol=digits)
