"""What `jaxprob.optim` promises beside its numbers: signatures, states, dtypes, edges, refusals."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.optim as O  # noqa: N812
from torch.optim import lr_scheduler

from jaxprob import optim
from jaxprob.optim import schedules
from parity_tests.tolerances import OPTIM

RATE = schedules.cosine_annealing_lr(1e-2, 100)
WARM = schedules.one_cycle_momentum(100)

# Every option that adds to the state or to the arithmetic, beside every default.
TRANSFORMS = {
    "sgd": optim.sgd(),
    "sgd full": optim.sgd(RATE, WARM, 0.1, 1e-2),
    "adam": optim.adam(),
    "adam full": optim.adam(RATE, (WARM, 0.99), weight_decay=1e-2, amsgrad=True),
    "adamw": optim.adamw(RATE),
    "nadam": optim.nadam(RATE, weight_decay=1e-2, decoupled_weight_decay=True),
    "radam": optim.radam(RATE, weight_decay=1e-2, decoupled_weight_decay=True),
    "adamax": optim.adamax(RATE, weight_decay=1e-2),
    "adagrad": optim.adagrad(RATE, 1e-2, 1e-2, 0.1),
    "adadelta": optim.adadelta(RATE, weight_decay=1e-2),
    "rmsprop": optim.rmsprop(),
    "rmsprop full": optim.rmsprop(RATE, momentum=WARM, centered=True, weight_decay=1e-2),
    "rprop": optim.rprop(),
    "clip": optax.chain(optim.clip_grad_norm(0.1), optim.adam()),
    "plateau": optax.chain(optim.adam(), schedules.reduce_lr_on_plateau(1e-3)),
}

TORCH_ONLY = {"params", "foreach", "capturable", "differentiable", "fused"}
PAIRS = [
    (optim.sgd, O.SGD),
    (optim.adam, O.Adam),
    (optim.adamw, O.AdamW),
    (optim.nadam, O.NAdam),
    (optim.radam, O.RAdam),
    (optim.adamax, O.Adamax),
    (optim.adagrad, O.Adagrad),
    (optim.adadelta, O.Adadelta),
    (optim.rmsprop, O.RMSprop),
    (optim.rprop, O.Rprop),
    (optim.clip_grad_norm, torch.nn.utils.clip_grad_norm_),
    (schedules.constant_lr, lr_scheduler.ConstantLR),
    (schedules.step_lr, lr_scheduler.StepLR),
    (schedules.multi_step_lr, lr_scheduler.MultiStepLR),
    (schedules.exponential_lr, lr_scheduler.ExponentialLR),
    (schedules.linear_lr, lr_scheduler.LinearLR),
    (schedules.polynomial_lr, lr_scheduler.PolynomialLR),
    (schedules.cosine_annealing_lr, lr_scheduler.CosineAnnealingLR),
    (schedules.cosine_annealing_warm_restarts, lr_scheduler.CosineAnnealingWarmRestarts),
    (schedules.reduce_lr_on_plateau, lr_scheduler.ReduceLROnPlateau),
]


def _params(dtype=np.float64):
    rng = np.random.default_rng(7)
    return {
        "layer": {"w": jnp.asarray(rng.standard_normal((3, 2)), dtype)},
        "b": jnp.asarray(rng.standard_normal(3), dtype),
        "scale": jnp.asarray(rng.standard_normal(), dtype),
    }


def _gradient(params, step):
    """Smooth, of changing sign, and different in every step."""
    return jax.tree.map(
        lambda p: (jnp.sin(3 * p + step.astype(p.dtype)) + p).astype(p.dtype), params
    )


def _train(tx, params, steps=20):
    """Parameters and state after a compiled scan, which refuses a state that changes its types."""
    tx = optax.with_extra_args_support(tx)

    def body(carry, step):
        params, state = carry
        updates, state = tx.update(_gradient(params, step), state, params, value=1.0)
        assert all(u.dtype == p.dtype for u, p in _pairs(updates, params))
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(steps))[0]


def _pairs(a, b):
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_arguments_and_defaults_are_torchs(ours, theirs):
    def arguments(function):
        return {
            name: float(p.default) if isinstance(p.default, int | float) else p.default
            for name, p in inspect.signature(function).parameters.items()
        }

    extra = {"lr"} if ours.__module__.endswith(("schedules", "plateau")) else set()
    mine = {k: v for k, v in arguments(ours).items() if k not in extra | {"accumulation_size"}}
    dropped = TORCH_ONLY | {"optimizer", "last_epoch", "parameters", "error_if_nonfinite"}
    yours = {k: v for k, v in arguments(theirs).items() if k not in dropped}
    assert mine == yours
    assert [k for k in mine if k in yours][:3] == list(yours)[:3]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_dtypes_stay_what_they_are(name, dtype):
    tx = TRANSFORMS[name]
    params, state = jax.jit(lambda p: _train(tx, p))(_params(dtype))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for leaf in jax.tree.leaves(state):
        assert leaf.dtype == dtype or leaf.shape == ()  # counters, NAdam's product, the plateau's
        assert np.isfinite(leaf).all() or name == "plateau"  # whose best is infinite at first


@pytest.mark.parametrize("name", TRANSFORMS)
def test_float32_does_not_need_float64(name):
    with jax.enable_x64(False):
        params, state = _train(TRANSFORMS[name], _params(np.float32))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state))} <= {"float32", "int32"}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_members_train_as_if_alone(name):
    tx = TRANSFORMS[name]
    members = jax.tree.map(lambda p: jnp.stack([p, p + 1, -p]), _params())
    train = jax.jit(lambda p: _train(tx, p))
    together, state = jax.jit(jax.vmap(train))(members)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state))
    for i in range(3):
        alone, _ = train(jax.tree.map(lambda p: p[i], members))  # noqa: B023
        for a, b in _pairs(jax.tree.map(lambda p: p[i], together), alone):  # noqa: B023
            np.testing.assert_allclose(a, b, rtol=OPTIM["vmap"], atol=OPTIM["vmap"])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_second_update_does_not_retrace(name):
    tx, traces = optax.with_extra_args_support(TRANSFORMS[name]), []

    @jax.jit
    def update(grads, state, params):
        traces.append(1)
        return tx.update(grads, state, params, value=1.0)

    params = _params(np.float32)
    updates, state = update(params, tx.init(params), params)
    update(updates, state, params)
    assert len(traces) == 1


@pytest.mark.parametrize("name", TRANSFORMS)
def test_strict_promotion_is_met(name):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        tx, params = optax.with_extra_args_support(TRANSFORMS[name]), _params(np.float32)
        updates, _ = tx.update(params, tx.init(params), params, value=1.0)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


@pytest.mark.parametrize("ours", [pair[0] for pair in PAIRS[:10]])
def test_maximize_mirrors(ours):
    params = _params()
    results = []
    for sign in (1.0, -1.0):
        tx = ours(maximize=sign < 0)
        state = tx.init(params)
        for step in range(4):
            grads = jax.tree.map(lambda g: sign * g, _gradient(params, jnp.int32(step)))  # noqa: B023
            updates, state = tx.update(grads, state, params)
        results.append(updates)
    assert all((a == b).all() for a, b in _pairs(*results))


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (optim.sgd, O.SGD, dict(momentum=0.9, dampening=0.2)),
        (optim.adam, O.Adam, dict(amsgrad=True)),
        (optim.adamw, O.AdamW, dict(weight_decay=0.1)),
        (optim.nadam, O.NAdam, {}),
        (optim.radam, O.RAdam, {}),
        (optim.adamax, O.Adamax, {}),
        (optim.adagrad, O.Adagrad, {}),
        (optim.adadelta, O.Adadelta, {}),
        (optim.rmsprop, O.RMSprop, dict(momentum=0.9, centered=True)),
        (optim.rprop, O.Rprop, {}),
    ],
)
def test_state_is_torchs_field_by_field(ours, theirs, options):
    """So a run can be moved between the two libraries in the middle."""
    start = np.random.default_rng(1).standard_normal(6)
    tx = ours(1e-2, **options)
    ours_now = jnp.asarray(start)
    state = tx.init(ours_now)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        parameter = torch.tensor(start, requires_grad=True)
        optimizer = theirs([parameter], 1e-2, **options)
        for step in range(50):
            grads = _gradient(ours_now, jnp.int32(step))
            updates, state = tx.update(grads, state, ours_now)
            ours_now = optax.apply_updates(ours_now, updates)
            parameter.grad = torch.tensor(np.array(grads))
            optimizer.step()
    finally:
        torch.set_default_dtype(before)
    expected = optimizer.state[parameter]
    fields = {k: v for k, v in state._asdict().items() if v is not None}
    if theirs is O.SGD:
        fields.pop("step")
    assert fields.keys() == expected.keys()
    for name, value in fields.items():
        reference = expected[name].numpy()
        np.testing.assert_allclose(
            value, reference, rtol=0, atol=OPTIM["state"] * abs(reference).max()
        )


def test_hyperparameters_may_be_arrays():
    """As `inject_hyperparams` passes them, and as an ensemble with one rate a member needs."""
    params = _params()
    injected = optax.inject_hyperparams(optim.adam)(lr=1e-2, weight_decay=1e-2)
    state = injected.init(params)
    updates, _ = injected.update(params, state, params)
    plain = optim.adam(1e-2, weight_decay=1e-2)
    expected, _ = plain.update(params, plain.init(params), params)
    for a, b in _pairs(updates, expected):
        np.testing.assert_allclose(a, b, rtol=OPTIM["vmap"])

    rates = jnp.asarray([1e-3, 1e-2])
    members, _ = jax.vmap(lambda lr: _train(optim.rmsprop(lr, momentum=0.9), params))(rates)
    for i, lr in enumerate((1e-3, 1e-2)):
        alone, _ = _train(optim.rmsprop(lr, momentum=0.9), params)
        for a, b in _pairs(jax.tree.map(lambda p: p[i], members), alone):  # noqa: B023
            np.testing.assert_allclose(a, b, rtol=OPTIM["vmap"])


def test_masked_parameters_are_left_alone():
    params = _params()
    tx = optax.masked(optim.adamw(), {"layer": True, "b": False, "scale": False})
    updates, _ = tx.update(params, tx.init(params), params)
    assert (updates["b"] == params["b"]).all()
    assert (updates["layer"]["w"] != params["layer"]["w"]).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_tree_without_leaves(name):
    tx = optax.with_extra_args_support(TRANSFORMS[name])
    assert tx.update({}, tx.init({}), {}, value=1.0)[0] == {}


def test_python_floats_are_parameters_too():
    params, state = _train(
        optim.adam(weight_decay=1e-2), {"a": jnp.asarray(1.0), "b": 2.0}, steps=0
    )
    assert params["b"] == 2.0
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))


def test_clipping_passes_zero_and_small_gradients():
    tx = optim.clip_grad_norm(1.0)
    for grads in (jnp.zeros(3), jnp.asarray([0.1, -0.2, 0.3])):
        clipped, _ = tx.update(grads, tx.init(grads))
        assert (clipped == grads).all()


INVALID = [
    (optim.sgd, O.SGD, dict(lr=-0.1), "lr"),
    (optim.sgd, O.SGD, dict(momentum=-0.1), "momentum"),
    (optim.sgd, O.SGD, dict(weight_decay=-0.1), "weight_decay"),
    (optim.sgd, O.SGD, dict(nesterov=True), "momentum"),
    (optim.sgd, O.SGD, dict(nesterov=True, momentum=0.9, dampening=0.1), "dampening"),
    (optim.adam, O.Adam, dict(lr=-0.1), "lr"),
    (optim.adam, O.Adam, dict(eps=-1e-8), "eps"),
    (optim.adam, O.Adam, dict(betas=(1.0, 0.9)), "betas[0]"),
    (optim.adam, O.Adam, dict(betas=(0.9, -0.1)), "betas[1]"),
    (optim.adam, None, dict(betas=0.9), "betas"),
    (optim.adam, None, dict(lr="1e-3"), "lr"),
    (optim.adam, O.Adam, dict(lr=float("nan")), "lr"),
    (optim.adamw, O.AdamW, dict(weight_decay=-0.1), "weight_decay"),
    (optim.nadam, O.NAdam, dict(momentum_decay=-0.1), "momentum_decay"),
    (optim.radam, O.RAdam, dict(betas=(0.9, 1.0)), "betas[1]"),
    (optim.adamax, O.Adamax, dict(eps=-1.0), "eps"),
    (optim.adagrad, O.Adagrad, dict(lr_decay=-1.0), "lr_decay"),
    (
        optim.adagrad,
        O.Adagrad,
        dict(initial_accumulator_value=-1.0),
        "initial_accumulator_value",
    ),
    (optim.adadelta, O.Adadelta, dict(rho=1.5), "rho"),
    (optim.rmsprop, O.RMSprop, dict(alpha=-0.1), "alpha"),
    (optim.rprop, O.Rprop, dict(etas=(1.5, 2.0)), "etas"),
    (optim.rprop, None, dict(step_sizes=(1.0, 0.1)), "step_sizes"),
    (optim.rprop, None, dict(etas=0.5), "etas"),
    (optim.adam, None, dict(lr={"w": 1.0}), "lr"),
    (optim.sgd, None, dict(lr=[np.ones(2)]), "lr"),
    (schedules.multi_step_lr, None, dict(lr=0.1, milestones=30), "milestones"),
    (optim.clip_grad_norm, None, dict(max_norm=-1.0), "max_norm"),
]


@pytest.mark.parametrize(("ours", "theirs", "options", "name"), INVALID)
def test_refuses_what_torch_refuses(ours, theirs, options, name):
    with pytest.raises((ValueError, TypeError)) as refusal:
        ours(**options)
    if isinstance(refusal.value, ValueError):  # else a run-time type checker was there first
        assert re.match(rf"{re.escape(name)}: expected .*got .*; ", str(refusal.value))
    if theirs is not None:
        with pytest.raises(ValueError):  # noqa: PT011 - the wording is torch's
            theirs([torch.zeros(1, requires_grad=True)], **options)


def test_missing_parameters_are_named():
    tx = optim.adamw()
    with pytest.raises(ValueError, match="params: .*weight_decay.*update"):
        tx.update(_params(), tx.init(_params()))


def test_complex_parameters_are_refused():
    with pytest.raises(ValueError, match=r"params\['w'\]: expected a real dtype, got complex"):
        optim.adam().init({"w": jnp.zeros(2, complex)})
