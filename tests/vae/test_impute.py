"""What is missing, drawn given what was seen: against the conditional law of probabilistic PCA."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import heads, vae
from jaxprob.distributions import Categorical, Independent, MultivariateNormal
from tests.support.latents import drawn
from tests.vae.linear_gaussian import B, Decoder, Posterior, S, W, X

KEY = jax.random.key(0)
SEEN = np.array([True, False, True, False])
MASK = np.tile(SEEN, (len(X), 1))
HIDDEN = np.where(MASK, X, np.nan)
BATCH = {"x": HIDDEN, "x_observed": MASK}


def conditional():
    """Mean `[B, 2]` and covariance of the hidden elements given the seen ones, by the joint law."""
    whole = W @ W.T + S**2 * np.eye(4)
    inside = np.linalg.inv(whole[np.ix_(SEEN, SEEN)])
    gain = whole[np.ix_(~SEEN, SEEN)] @ inside
    mean = B[~SEEN] + (X[:, SEEN] - B[SEEN]) @ gain.T
    return mean, whole[np.ix_(~SEEN, ~SEEN)] - gain @ whole[np.ix_(SEEN, ~SEEN)]


class PosteriorOfSeen(nn.Module):
    """p(z | x_seen), exact: the rows of W that were not observed say nothing."""

    @nn.compact
    def __call__(self, x):
        weights = W[SEEN]
        inside = weights.T @ weights + S**2 * np.eye(2)
        loc = (x[:, SEEN] - B[None, SEEN]) @ weights @ np.linalg.inv(inside)
        factor = np.linalg.cholesky(S**2 * np.linalg.inv(inside))
        return MultivariateNormal(loc, jnp.broadcast_to(factor, (*loc.shape, 2)))


EXACT = vae.VAE(PosteriorOfSeen(), Decoder(), 2)
WIDE = vae.VAE(Posterior(4.0), Decoder(), 2)  # made for whole rows: wrong of those with 0 in them


def assert_conditional(x, errors=4.5):
    """Means and covariances of draws `[S, B, D]` are those of the conditional law."""
    count = len(x)
    x = np.asarray(x)
    np.testing.assert_array_equal(x[..., SEEN], np.tile(X[:, SEEN], (count, 1, 1)))
    mean, covariance = conditional()
    hidden = x[..., ~SEEN]
    scale = np.sqrt(np.diag(covariance))
    assert np.max(np.abs(hidden.mean(0) - mean) / scale) < errors / np.sqrt(count)
    size = np.outer(scale, scale)
    for i in range(len(X)):
        off = np.abs(np.cov(hidden[:, i].T) - covariance) / size
        assert np.max(off) < errors * np.sqrt(2 / count)


def test_draws_from_the_exact_posterior_have_the_exact_law():
    x = np.asarray(vae.impute(EXACT, {}, BATCH, KEY, 4000))
    assert_conditional(x)
    mean, covariance = conditional()
    for j in range(2):
        law = stats.norm(mean[0, j], np.sqrt(covariance[j, j]))
        assert stats.kstest(x[:, 0, np.flatnonzero(~SEEN)[j]], law.cdf).pvalue > 1e-3


def test_many_proposals_mend_a_posterior_that_is_wrong():
    one = np.asarray(vae.impute(WIDE, {}, BATCH, KEY, 2000))
    with pytest.raises(AssertionError):
        assert_conditional(one)
    assert_conditional(vae.impute(WIDE, {}, BATCH, KEY, 1000, num_proposals=400), 6.0)


def test_the_average_of_means_is_the_conditional_mean():
    x = vae.impute(EXACT, {}, BATCH, KEY, 3000, mean=True)
    mean, covariance = conditional()
    hidden = np.asarray(x)[..., ~SEEN]
    np.testing.assert_allclose(hidden.mean(0), mean, atol=4 * np.sqrt(covariance.max() / 3000))
    # without the noise of x, which is S^2 of the variance
    spread = np.tile(np.diag(covariance) - S**2, (len(X), 1))
    np.testing.assert_allclose(hidden.var(0), spread, rtol=4 * np.sqrt(2 / 3000))


def test_log_marginal_of_what_was_seen_is_exact():
    """By a batch, by `given`, whatever the hidden values hold; and `mask` is the short name."""
    whole = W @ W.T + S**2 * np.eye(4)
    truth = stats.multivariate_normal(B[SEEN], whole[np.ix_(SEEN, SEEN)]).logpdf(X[:, SEEN])
    for x, given in ((BATCH, None), (X, {"mask": MASK}), (X + 7.0 * ~MASK, {"x_observed": MASK})):
        found = vae.log_marginal(EXACT, {}, x, KEY, 8, 4, given)
        np.testing.assert_allclose(found.value, truth, rtol=1e-10)
        assert np.all(found.standard_error < 1e-6)


def test_what_is_hidden_is_seen_by_nothing():
    """reconstruct, diagnostics and paths give the same whatever stands behind the mask."""
    model = vae.DenseVAE(4, (5,), 2, nn.tanh, heads.NormalHead)
    params = drawn(model, X)
    other = np.where(MASK, X, 99.0)

    def uses(x):
        given = {"x_observed": MASK}
        report = vae.diagnostics(model, params, x, KEY, given)
        return (
            vae.reconstruct(model, params, x, given).mean(),
            vae.traverse(model, params, x, 1, (0.5,), given).mean(),
            vae.interpolate(model, params, x, x[::-1], 3, given=given).mean(),
            report[:5],
        )

    for a, b in zip(jax.tree.leaves(uses(HIDDEN)), jax.tree.leaves(uses(other)), strict=True):
        np.testing.assert_array_equal(a, b)
    found = vae.reconstruct(model, params, HIDDEN, {"mask": MASK}).mean()
    filled = vae.reconstruct(model, params, np.where(MASK, X, 0.0)).mean()
    np.testing.assert_array_equal(found, filled)


def test_draws_do_not_depend_on_their_number_or_on_other_rows():
    few, many = (vae.impute(WIDE, {}, BATCH, KEY, num, 3) for num in (2, 4))
    np.testing.assert_array_equal(few, many[:2])
    first = {name: value[:2] for name, value in BATCH.items()}
    np.testing.assert_allclose(vae.impute(WIDE, {}, first, KEY, 2, 3), few[:, :2], rtol=1e-12)
    single = {"x": HIDDEN.astype(np.float32), "x_observed": MASK}
    assert vae.impute(WIDE, {}, single, KEY).dtype == jnp.float32


class Classes(nn.Module):
    """Three pixels of four grey levels each."""

    @nn.compact
    def __call__(self, z):
        logits = nn.Dense(12)(z).reshape(*z.shape[:-1], 3, 4)
        return Independent(Categorical(logits=logits), 1)


class OneHot(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(jax.nn.one_hot(x, 4).reshape(x.shape[0], -1))


def test_hidden_classes_are_drawn_as_classes():
    model = vae.VAE(OneHot(), Classes(), 2)
    x = np.array([[0, 3, 1], [2, 2, 0]])
    params, mask = drawn(model, x), np.array([[True, False, True], [False, True, True]])
    drawn_x = np.asarray(vae.impute(model, params, {"x": x, "mask": mask}, KEY, 50))
    assert np.issubdtype(drawn_x.dtype, np.integer)
    assert np.all((drawn_x >= 0) & (drawn_x < 4))
    np.testing.assert_array_equal(drawn_x[:, mask], np.tile(x[mask], (50, 1)))
    assert len(np.unique(drawn_x[:, 0, 1])) > 1
    modes = vae.impute(model, params, {"x": x, "mask": mask}, KEY, mean=True)
    assert np.issubdtype(modes.dtype, np.integer)


DEPENDENT = vae.VAE(Posterior(), nn.Sequential([heads.MultivariateNormalHead(4)]), 2)
SEQUENCES = vae.RecurrentVAE(heads.NormalHead(2), 2, 4)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: vae.impute(EXACT, {}, X, KEY), "nothing says what is missing"),
        (lambda: vae.impute(EXACT, {}, BATCH, KEY, 0), "num must be at least 1; got 0"),
        (lambda: vae.impute(EXACT, {}, BATCH, KEY, 1, 0), "num_proposals must be at least 1"),
        (
            lambda: vae.impute(EXACT, {}, {"x": X, "mask": MASK[:, :2]}, KEY),
            "mask.* has shape .5, 2.; expected that of",
        ),
        (
            lambda: vae.impute(SEQUENCES, {}, {"x": X, "mask": MASK}, KEY),
            "impute: the decoder of RecurrentVAE reads the steps before",
        ),
        (
            lambda: vae.impute(DEPENDENT, drawn(DEPENDENT, X), BATCH, KEY),
            "has dependent ones",
        ),
        (
            lambda: vae.impute(vae.DiscreteVAE(nn.Dense(2), Classes(), 2), {}, BATCH, KEY),
            "DiscreteVAE has discrete latents",
        ),
    ],
)
def test_refuses(run, message):
    with pytest.raises(ValueError, match=message):
        run()
