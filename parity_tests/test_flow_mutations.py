"""Mistakes of a flow that its rows must notice; each breaks the twin alone."""

import pytest
import torch

from jaxprob import flows
from parity_tests.cases.flows import HIDDEN, D, flow_row, spline_row
from parity_tests.engine import compare_function
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
    "mask off by one degree": flow_row(
        "", flows.masked_autoregressive(D, 1, HIDDEN), _one_degree_further
    ),
    "no bound on the log-scale": flow_row("", flows.coupling(D, 1, HIDDEN), _unbounded),
    "sign of the log-determinant": flow_row("", flows.Flow(D, (flows.LULinear(D),)), _other_sign),
    "planar map without its constraint": flow_row("", flows.planar(D, 1), _upside_down),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mistake_is_caught(name):
    values, _ = compare_function(MUTATIONS[name], "float64")
    assert max(values.values()) > 1e3 * MODELS["value"]["float64"]


def test_slope_at_the_boundary_is_caught(monkeypatch):
    """A slope other than 1 where the spline meets its straight tails."""
    right = splines.knots

    def knots(raw, bound):
        spline = right(raw, bound)
        slope = spline.slope.clone()
        slope[..., 0] = 1.001
        return spline._replace(slope=slope)

    monkeypatch.setattr(splines, "knots", knots)
    values, _ = compare_function(spline_row(""), "float64")
    assert max(values.values()) > 1e3 * MODELS["value"]["float64"]
