"""Both sides against truth: SciPy, mpmath, quadrature and enumeration know neither.

A twin by the same hand can share a mistake; these cannot.
"""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

import jaxprob.distributions as jd
import torch_ref.distributions as td
from jaxprob import bayes
from jaxprob.bayes import gaussian_block
from jaxprob.objectives import GaussianPrior
from parity_tests.engine import relative_error, torch_dtype
from parity_tests.tolerances import ORACLES
from torch_ref.bayes.gaussian_block import GaussianBlock

_rng = np.random.default_rng(5)
LOC, SCALE = _rng.normal(size=30), _rng.uniform(0.2, 3.0, 30)
X, Q = _rng.normal(size=30) * 3, _rng.uniform(0.001, 0.999, 30)
TRIL = np.tril(_rng.normal(size=(3, 3)), -1) + np.diag(_rng.uniform(0.5, 2.0, 3))
MIXTURE = (np.array([-1.0, 0.5, 4.0]), np.array([0.3, 1.0, 0.5]))  # equal weights


@pytest.fixture(autouse=True)
def _double():
    with torch_dtype("float64"):
        yield


def both(fn_jax, fn_torch):
    return [np.asarray(fn_jax()), fn_torch().detach().numpy()]


def assert_oracle(values, truth, bound=ORACLES["closed form"]):
    for value in values:
        assert relative_error(value, truth) <= bound


@pytest.mark.parametrize("name", ["log_prob", "cdf", "log_cdf", "survival_function"])
def test_normal_functions(name):
    method = {"log_prob": "logpdf", "log_cdf": "logcdf", "survival_function": "sf"}.get(name, name)
    truth = getattr(scipy.stats.norm(LOC, SCALE), method)(X)
    ours = getattr(jd.Normal(LOC, SCALE), name)(X)
    twin = getattr(td.Normal(torch.tensor(LOC), torch.tensor(SCALE)), name)(torch.tensor(X))
    assert_oracle([ours, twin.numpy()], truth)


def test_normal_quantile_and_entropy():
    truth = scipy.stats.norm(LOC, SCALE)
    ours, twin = jd.Normal(LOC, SCALE), td.Normal(torch.tensor(LOC), torch.tensor(SCALE))
    assert_oracle([ours.quantile(Q), twin.quantile(torch.tensor(Q)).numpy()], truth.ppf(Q))
    assert_oracle([ours.entropy(), twin.entropy().numpy()], truth.entropy())


def test_normal_log_cdf_in_the_upper_tail():
    """log(1 - tiny): the place where the libraries' own log_cdf is 4e-5 off."""
    x = np.array([5.0, 7.0, 8.0, 20.0, 35.0])
    mpmath.mp.dps = 60
    truth = np.array([float(mpmath.log1p(-mpmath.erfc(v / mpmath.sqrt(2)) / 2)) for v in x])
    ours = np.asarray(jd.Normal(0.0, 1.0).log_cdf(x))
    twin = td.Normal(torch.tensor(0.0), torch.tensor(1.0)).log_cdf(torch.tensor(x)).numpy()
    for value in (ours, twin):
        np.testing.assert_allclose(value, truth, rtol=ORACLES["tails"])


def test_multivariate_normal():
    rng = np.random.default_rng(6)
    loc, x = rng.normal(size=3), rng.normal(size=(5, 3))
    truth = scipy.stats.multivariate_normal(loc, TRIL @ TRIL.T)
    ours = jd.MultivariateNormal(loc, TRIL)
    twin = td.MultivariateNormal(torch.tensor(loc), torch.tensor(TRIL))
    assert_oracle([ours.log_prob(x), twin.log_prob(torch.tensor(x)).numpy()], truth.logpdf(x))
    assert_oracle([ours.entropy(), twin.entropy().numpy()], truth.entropy())
    assert_oracle([ours.covariance(), twin.covariance_matrix.numpy()], TRIL @ TRIL.T)


def test_multivariate_normal_kl_by_its_definition():
    """KL = E_p [log p - log q]; the expectation of a quadratic form is exact in closed form."""
    rng = np.random.default_rng(6)
    p = (rng.normal(size=3), TRIL)
    q = (rng.normal(size=3), np.diag([0.7, 1.3, 0.9]) + np.tril(np.full((3, 3), 0.2), -1))
    sp, sq = p[1] @ p[1].T, q[1] @ q[1].T
    gap = q[0] - p[0]
    truth = 0.5 * (
        np.trace(np.linalg.solve(sq, sp))
        + gap @ np.linalg.solve(sq, gap)
        - 3
        + np.linalg.slogdet(sq)[1]
        - np.linalg.slogdet(sp)[1]
    )
    ours = jd.MultivariateNormal(*p).kl_divergence(jd.MultivariateNormal(*q))
    tensors = [[torch.tensor(a) for a in pair] for pair in (p, q)]
    twin = torch.distributions.kl_divergence(*(td.MultivariateNormal(*t) for t in tensors))
    assert_oracle([ours, twin.numpy()], truth)


def mixtures():
    loc, scale = MIXTURE
    logits = np.zeros(3)
    ours = jd.MixtureSameFamily(_categorical(logits), jd.Normal(loc, scale))
    twin = td.MixtureSameFamily(
        torch.distributions.Categorical(logits=torch.tensor(logits)),
        td.Normal(torch.tensor(loc), torch.tensor(scale)),
    )
    return ours, twin


def _categorical(logits):
    import distrax

    return distrax.Categorical(logits=jnp.asarray(logits))


def mixture_density(x):
    return np.mean(scipy.stats.norm(*MIXTURE).pdf(np.asarray(x)[..., None]), axis=-1)


def test_mixture_is_normalised_and_its_cdf_is_the_integral():
    ours, twin = mixtures()
    x = np.array([-3.0, -0.9, 0.0, 2.0, 4.4, 9.0])
    truth = [scipy.integrate.quad(mixture_density, -40, v, points=[-1, 0.5, 4])[0] for v in x]
    assert_oracle([ours.cdf(x), twin.cdf(torch.tensor(x)).numpy()], truth, ORACLES["quadrature"])
    assert_oracle(
        [ours.log_prob(x), twin.log_prob(torch.tensor(x)).numpy()], np.log(mixture_density(x))
    )
    far = np.array([-40.0, 60.0])  # where the densities underflow, the logarithms do not
    truth = np.logaddexp.reduce(
        scipy.stats.norm(*MIXTURE).logpdf(far[:, None]) - np.log(3), axis=-1
    )
    assert_oracle([ours.log_prob(far), twin.log_prob(torch.tensor(far)).numpy()], truth)


def test_mixture_quantile_inverts_the_cdf_far_into_both_tails():
    ours, twin = mixtures()
    for q in (1e-12, 1e-6, 0.05, 0.5, 0.7, 0.999, 1 - 1e-9):
        x = float(ours.quantile(q))
        tail = ours.cdf(x) if q < 0.5 else ours.survival_function(x)
        assert abs(float(tail) / min(q, 1 - q) - 1) < ORACLES["inverse"]
        assert abs(float(twin.quantile(q)) - x) < ORACLES["inverse"] * max(abs(x), 1)


def test_mixture_quantile_in_float32():
    """Exact to 1e-6 relative, the promise of the interface, against the float64 root."""
    loc, scale = (a.astype(np.float32) for a in MIXTURE)
    narrow = jd.MixtureSameFamily(
        _categorical(np.zeros(3, np.float32)), jd.Normal(jnp.asarray(loc), jnp.asarray(scale))
    )
    wide = jd.MixtureSameFamily(
        _categorical(np.zeros(3)), jd.Normal(loc.astype(np.float64), scale.astype(np.float64))
    )
    for q in np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 0.9999], np.float32):
        x = narrow.quantile(q)
        assert x.dtype == jnp.float32
        truth = float(wide.quantile(np.float64(q)))
        assert abs(float(x) - truth) <= ORACLES["float32 quantile"] * abs(truth)


def test_quantile_gradient_is_that_of_the_implicit_function():
    """D quantile / d (loc, scale, q) against central differences of the root itself."""

    def root(loc, scale, q):
        return jd.Predictive(jd.Normal(loc, scale)).quantile(q)

    arguments = [jnp.asarray(MIXTURE[0]), jnp.asarray(MIXTURE[1]), jnp.asarray(0.8)]
    for i in range(3):
        gradient = jax.grad(root, argnums=i)(*arguments)
        h = 1e-6
        up, down = (
            [a + sign * h if j == i else a for j, a in enumerate(arguments)] for sign in (1, -1)
        )
        numeric = (root(*up) - root(*down)) / (2 * h)
        assert abs(float(jnp.sum(gradient) - numeric)) < ORACLES["finite difference"]


def test_mutual_information_by_quadrature():
    entropy = scipy.integrate.quad(
        lambda x: -mixture_density(x) * np.log(mixture_density(x)), -12, 14, points=[-1, 0.5, 4],
        limit=400,
    )[0]  # fmt: skip
    truth = entropy - np.mean(scipy.stats.norm(*MIXTURE).entropy())
    ours = jd.Predictive(jd.Normal(*MIXTURE)).mutual_information
    twin = td.Predictive(td.Normal(*(torch.tensor(a) for a in MIXTURE))).mutual_information
    for value in (float(ours), float(twin)):
        assert abs(value - truth) < ORACLES["mutual information"]


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_kl_of_a_block_to_its_prior(covariance):
    """Against the general KL of two multivariate normals, in NumPy."""
    rng = np.random.default_rng(6)
    block = gaussian_block.init_block(jnp.asarray(rng.normal(size=4)), covariance, 0.3)
    block = {n: v + 0.3 * rng.normal(size=v.shape) for n, v in block.items()}
    factor = np.asarray(gaussian_block.scale_tril(block))
    prior_loc, prior_scale = 0.2, 0.8
    gap = np.asarray(block["loc"]) - prior_loc
    truth = 0.5 * (
        np.trace(factor @ factor.T) / prior_scale**2
        + gap @ gap / prior_scale**2
        - 4
        + 8 * np.log(prior_scale)
        - np.linalg.slogdet(factor @ factor.T)[1]
    )
    twin = GaussianBlock(torch.zeros(4), covariance, 0.3)
    for name, value in block.items():
        getattr(twin, name).data = torch.tensor(np.asarray(value))
    prior = torch.distributions.Normal(torch.full((4,), prior_loc), torch.full((4,), prior_scale))
    ours = gaussian_block.kl_to_prior(block, prior_loc, prior_scale**-2, np.log(prior_scale))
    assert_oracle([ours, twin.kl_to_prior(prior).detach().numpy()], truth)
    assert_oracle([factor, twin.scale_tril().detach().numpy()], factor)


def test_packing_uses_every_entry_once():
    """The triangle holds each number of the vector exactly once, whatever the size."""
    for size in (1, 2, 5, 6):
        count = size * (size + 1) // 2
        packed = np.asarray(gaussian_block._unpack(jnp.arange(1, count + 1), size))
        entries = packed[np.tril_indices(size)]
        assert sorted(entries) == list(range(1, count + 1))
        assert not packed[np.triu_indices(size, 1)].any()


def test_elbo_is_below_the_evidence_and_touches_it_at_the_exact_posterior():
    """Bayesian linear regression without a bias: evidence and posterior are known exactly."""
    rng = np.random.default_rng(6)
    import flax.linen as nn

    x, noise = rng.normal(size=(12, 2)), 0.4
    y = x @ np.array([[0.7], [-1.2]]) + noise * rng.normal(size=(12, 1))

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = self.param("kernel", nn.initializers.zeros, (2, 1))
            return jd.Independent(jd.Normal(x @ kernel, noise), 1)

    evidence = scipy.stats.multivariate_normal(
        np.zeros(12), x @ x.T + noise**2 * np.eye(12)
    ).logpdf(y[:, 0])
    covariance = np.linalg.inv(np.eye(2) + x.T @ x / noise**2)
    mean = covariance @ x.T @ y[:, 0] / noise**2
    q = bayes.GaussianPosterior(Linear(), x[:1], covariance="full", prior=GaussianPrior(1.0))
    params = q.init(jax.random.key(0))
    exact = _block_of(mean, np.linalg.cholesky(covariance))
    loss_fn = bayes.negative_elbo(q, num_data=12, num_samples=20_000)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    for block, gap_bound in ((exact, 0.0), (params["posterior"]["all"], np.inf)):
        loss, _ = loss_fn({"posterior": {"all": block}}, batch, jax.random.key(1))
        gap = evidence + 12 * float(loss)
        # At the exact posterior log p(y | w) + log prior - log q is the evidence for every w, but
        # nll and KL are averaged apart, so Monte Carlo error of the nll alone remains.
        assert gap > -ORACLES["Monte Carlo nats"]
        if gap_bound == 0.0:
            assert abs(gap) < ORACLES["Monte Carlo nats"]
        else:
            assert gap > 1.0


def _block_of(mean, factor):
    """The parameters whose Gaussian is N(mean, factor factor^T)."""
    scale = np.diag(factor)
    ratios = factor / scale[:, None]
    raw_diagonal = np.log(np.expm1(scale - gaussian_block.SCALE_FLOOR))
    lower = np.tril(ratios, -1) + np.diag(raw_diagonal)
    return {"loc": jnp.asarray(mean), "raw_tril": gaussian_block._pack(jnp.asarray(lower))}
