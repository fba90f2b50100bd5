"""The report says what the metrics say, and its sentence follows the numbers."""

import distrax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions import Distribution, Independent, Normal, Predictive
from jaxprob.metrics import coverage, crps, nll, pit, report, sharpness

ROWS = 400
RNG = np.random.default_rng(0)
LOC = RNG.normal(size=(ROWS, 1))
Y = LOC + RNG.normal(size=(ROWS, 1))


def prediction(scale):
    return Independent(Normal(LOC, np.full((ROWS, 1), scale)), 1)


def posterior_prediction():
    """Five draws around the truth: an epistemic variance of about 0.01 beside 1."""
    loc = LOC[None] + 0.1 * np.random.default_rng(1).normal(size=(5, ROWS, 1))
    return Predictive(Independent(Normal(loc, 1.0), 1))


PARITY = np.where(np.arange(ROWS) % 2 == 0, "even", "odd")


@pytest.fixture(scope="module")
def posterior_report():
    return report(posterior_prediction(), Y, groups=PARITY)


def test_the_numbers_are_those_of_the_metrics():
    predictive = prediction(1.1)
    numbers = report(predictive, Y, groups=PARITY).to_dict()
    rows = np.asarray(nll(predictive, Y, per_row=True))
    ranks = np.sort(np.asarray(pit(predictive, Y)).ravel())
    expected = {
        "num_rows": ROWS,
        "nll": nll(predictive, Y),
        "nll_standard_error": scipy.stats.sem(rows),
        "crps": crps(predictive, Y),
        "rmse": np.sqrt(np.mean((np.asarray(predictive.mean()) - Y) ** 2)),
        "calibration_error": np.mean(np.abs(ranks - (np.arange(ROWS) + 0.5) / ROWS)),
    }
    assert numbers.pop("epistemic_share") is None
    for name, value in expected.items():
        np.testing.assert_allclose(numbers.pop(name), value, rtol=1e-12, err_msg=name)
    covered, width = numbers.pop("coverage"), numbers.pop("sharpness")
    assert list(covered) == list(width) == [0.5, 0.9, 0.95]
    for level in covered:
        share = float(coverage(predictive, Y, level))
        wilson = scipy.stats.binomtest(round(share * ROWS), ROWS).proportion_ci(method="wilson")
        np.testing.assert_allclose(covered[level], (share, wilson.low, wilson.high), rtol=1e-6)
        np.testing.assert_allclose(width[level], sharpness(predictive, level), rtol=1e-12)
    assert set(numbers) == {"groups"}
    inside = np.asarray(coverage(predictive, Y, per_row=True))
    for group, (share, _, _, rows) in numbers["groups"].items():
        np.testing.assert_allclose(share, inside[group == PARITY].mean(), rtol=1e-12)
        assert rows == ROWS // 2


def test_a_posterior_prediction_is_scored_as_the_mixture_that_it_is(posterior_report):
    predictive = posterior_prediction()
    variance, epistemic = np.sum(predictive.variance()), np.sum(predictive.epistemic)
    np.testing.assert_allclose(posterior_report.epistemic_share, epistemic / variance, rtol=1e-9)
    np.testing.assert_allclose(posterior_report.nll, nll(predictive, Y), rtol=1e-12)
    np.testing.assert_allclose(posterior_report.crps, crps(predictive, Y), rtol=1e-12)
    covered = coverage(predictive, Y, 0.9)
    np.testing.assert_allclose(posterior_report.coverage[0.9][0], covered, rtol=1e-12)


def test_the_text_mentions_every_number(posterior_report):
    result, text = posterior_report, str(posterior_report)
    shown = [
        f"{ROWS} rows",
        f"NLL            {result.nll:.4g} +- {result.nll_standard_error:.2g} nats a row",
        f"CRPS           {result.crps:.4g}",
        f"RMSE           {result.rmse:.4g}",
        f"quantiles off by {100 * result.calibration_error:.1f} %",
        f"epistemic      {100 * result.epistemic_share:.1f} % of the variance",
        result.verdict(),
    ]
    for level, (share, low, high) in result.coverage.items():
        shown += [
            f"{100 * level:.0f} % interval  covers {100 * share:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}], mean width {result.sharpness[level]:.4g}"
        ]
    for group, (share, low, high, rows) in result.groups.items():
        shown += [
            f"group {group}: 90 % interval covers {100 * share:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}] of {rows}"
        ]
    assert len(shown) == 12
    for piece in shown:
        assert piece in text


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (0.5, "fewer than they say: they are too narrow"),
        (1.0, "consistent with 90 %"),
        (2.0, "more than they say: they are too wide"),
    ],
)
def test_the_verdict_follows_the_intervals(scale, words):
    result = report(prediction(scale), Y)
    assert words in result.verdict()
    assert f"hold {100 * result.coverage[0.9][0]:.1f} % of the targets" in result.verdict()
    assert result.epistemic_share is None
    assert "epistemic" not in str(result)


def test_few_rows_do_not_condemn():
    # 16 of 20 inside is 80 %, but by chance; 160 of 200 is not.
    y = np.where(np.arange(20) < 16, 0.0, 9.0)
    assert "consistent with 90 %" in report(Normal(np.zeros(20), 1.0), y).verdict()
    y = np.where(np.arange(200) < 160, 0.0, 9.0)
    assert "too narrow" in report(Normal(np.zeros(200), 1.0), y).verdict()


@pytest.mark.parametrize(
    "labels",
    [["a", "b"], np.array(["a", "b"], object), [3, 7], [True, False]],
    ids=["text", "objects", "numbers", "booleans"],
)
def test_groups_are_scored_apart(labels):
    choice = (np.arange(ROWS) % 4 == 0).astype(int)  # a hundred rows of the second label
    groups = np.asarray(labels)[choice]
    y = np.where(choice[:, None] == 1, LOC + 9.0, LOC)
    found = report(prediction(1.0), y, groups=groups).groups
    assert set(found) == set(labels)
    assert (found[labels[0]][0], found[labels[0]][3]) == (1.0, 300)
    assert (found[labels[1]][0], found[labels[1]][3]) == (0.0, 100)
    wilson = scipy.stats.binomtest(0, 100).proportion_ci(method="wilson")
    np.testing.assert_allclose(found[labels[1]][1:3], tuple(wilson), rtol=1e-6, atol=1e-12)


class Logistic(Distribution, distrax.Logistic):
    """A distribution of a user's own."""

    def quantile(self, q):
        return self.loc + self.scale * jnp.log(q / (1 - q))


def test_crps_is_left_out_where_there_is_no_closed_form():
    y = np.linspace(-1, 1, 8)
    result = report(Logistic(np.zeros(8), np.ones(8)), y)
    assert result.crps is None
    assert "CRPS" not in str(result)
    np.testing.assert_allclose(result.rmse, np.sqrt(np.mean(y**2)))
    np.testing.assert_allclose(result.nll, -scipy.stats.logistic.logpdf(y).mean())


def test_a_single_row_has_no_standard_error():
    assert report(Normal(np.zeros(1), 1.0), np.zeros(1)).nll_standard_error == 0.0


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (Y[:, 0], None, r"report: y has shape \(400,\), but .* \(400, 1\). Write y\[:, None\]"),
        (Y[:5], None, r"report: y has shape \(5, 1\), but the predictions have shape \(400, 1\)"),
        (Y, np.zeros(5), r"groups has shape \(5,\); expected one label for each row, \(400,\)"),
        (Y, np.zeros((400, 1)), r"groups has shape \(400, 1\); expected one label"),
    ],
)
def test_bad_shapes(y, groups, message):
    with pytest.raises(ValueError, match=message):
        report(prediction(1.0), y, groups=groups)
