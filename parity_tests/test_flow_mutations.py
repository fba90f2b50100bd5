"""Mistakes of a flow that its rows must notice; each breaks the twin alone."""

from unittest import mock

import pytest
import torch

from jaxprob import flows
from parity_tests.cases.flows import HIDDEN, D, flow_row, spline_row
from parity_tests.loss_errors import right_and_broken
from parity_tests.tolerances import MODELS
from torch_ref import flows as twins
from torch_ref.flows import splines


def _one_degree_further():
    """Each output sees its own input too: `>=` where `>` stands."""
    flow = twins.masked_autoregressive(D, 1, HIDDEN)
    out = flow.transforms_0.made.out
    out.mask = torch.roll(out.mask, -2, 0) | out.mask
    return flow


def _unbounded():
    flow = twins.coupling(D, 1, HIDDEN)
    flow.transforms_0.scale_bound = 1e9
    return flow


def _other_sign():
    flow = twins.Flow(D, [twins.LULinear(D)])
    right = flow.transforms_0.inverse
    flow.transforms_0.inverse = lambda x, condition: (right(x)[0], -right(x)[1])
    return flow


def _upside_down():
    """The constraint of a planar map on u instead of on its part along w."""
    flow = twins.planar(D, 1)
    right = flow.transforms_0.directions
    flow.transforms_0.directions = lambda condition: (
        right(condition)[0], flow.transforms_0.u, *right(condition)[2:],
    )  # fmt: skip
    return flow


MUTATIONS = {
    "mask off by one degree": (
        lambda package: package.masked_autoregressive(D, 1, HIDDEN), _one_degree_further),
    "no bound on the log-scale": (lambda package: package.coupling(D, 1, HIDDEN), _unbounded),
    "sign of the log-determinant": (
        lambda package: package.Flow(D, [package.LULinear(D)]), _other_sign),
    "planar map without its constraint": (lambda package: package.planar(D, 1), _upside_down),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_mistake_is_caught(name):
    build, broken = MUTATIONS[name]
    model = build(flows)
    rows = flow_row("", model, lambda: build(twins)), flow_row("", model, broken)
    check(*right_and_broken(*rows))


def check(right, wrong):
    assert right <= MODELS["value"]["float64"]
    assert wrong > 1e3 * MODELS["value"]["float64"]


def test_slope_at_the_boundary_is_caught():
    """A slope other than 1 where the spline meets its straight tails."""
    right = splines.knots

    def knots(raw, bound):
        spline = right(raw, bound)
        slope = spline.slope.clone()
        slope[..., 0] = 1.001
        return spline._replace(slope=slope)

    def broken(*arguments, **options):
        with mock.patch.object(splines, "knots", knots):
            return splines.rational_quadratic(*arguments, **options)

    check(*right_and_broken(spline_row(""), spline_row("", broken)))


def test_the_twins_refuse_what_ours_refuse():
    """What would be another density without a word; and units are no integers on either side."""
    with pytest.raises(ValueError, match="Permutation: 3 places"):
        twins.Permutation((1, 0, 2))(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="made for a condition"):
        twins.Planar(2, condition_features=1)(torch.zeros(2, 2))
    x, _ = twins.Rescale((0.5, -1.5), 0.25)(torch.tensor([[4, 8]]))
    assert x.tolist() == [[1.5, 0.5]]
