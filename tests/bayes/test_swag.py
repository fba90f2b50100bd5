"""SWA, SWAG and snapshots against NumPy over the recorded iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import bayes, optim, training

RNG = np.random.default_rng(0)
KEY, SLOW = jax.random.key(0), pytest.mark.slow
X = RNG.normal(size=(24, 2))
Y = X @ np.array([1.0, -1.0]) + 0.5 + RNG.normal(size=24)
DATA = {"x": X, "y": Y}
START = {"b": jnp.zeros(()), "w": jnp.zeros(2)}


def loss_fn(params, batch, key):
    error = batch["y"] - batch["x"] @ params["w"] - params["b"]
    return jnp.mean(error**2), {}


def walk(optimizer, steps=30):
    """The state of the optimiser after some steps on batches of five rows."""

    def step(carry, t):
        params, state = carry
        rows = (5 * t + jnp.arange(5)) % len(X)
        batch = {"x": jnp.asarray(X)[rows], "y": jnp.asarray(Y)[rows]}
        gradient = jax.grad(lambda p: loss_fn(p, batch, None)[0])(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    run = jax.jit(lambda: jax.lax.scan(step, (START, optimizer.init(START)), jnp.arange(steps)))
    (_, state), weights = run()
    return state, weights


@pytest.fixture(scope="module")
def recorded():
    """All weights of the plain optimiser, `[30, 3]`."""
    return flat(walk(optim.sgd(0.05))[1], 1)


def flat(tree, axes=0):
    return np.concatenate(
        [np.reshape(leaf, (*np.shape(leaf)[:axes], -1)) for leaf in (tree["b"], tree["w"])], axes
    )


@pytest.mark.parametrize(("rank", "start", "every"), [(4, 6, 3), (20, 11, 2), (0, 1, 1)])
def test_moments_and_columns(recorded, rank, start, every):
    swag = bayes.SWAG(rank)
    optimizer = swag.collect(optax.chain(optax.scale(1.0), optim.sgd(0.05)), start, every)
    opt_state, weights = walk(optax.chain(optax.identity(), optimizer))
    np.testing.assert_allclose(flat(weights, 1), recorded, rtol=1e-13)
    state = swag.state_of(opt_state)
    chosen = recorded[start - 1 :: every]
    assert int(state.count) == len(chosen)
    np.testing.assert_allclose(flat(swag.mean(state)), chosen.mean(0), rtol=1e-13)
    np.testing.assert_allclose(flat(state.variance), chosen.var(0), rtol=1e-11)
    columns = [w - chosen[: i + 1].mean(0) for i, w in enumerate(chosen)]
    if rank == 0:
        assert {leaf.shape[0] for leaf in jax.tree.leaves(state.deviations)} == {0}
        return
    found = flat(state.deviations, 1)
    for i in range(max(0, len(chosen) - rank), len(chosen)):
        np.testing.assert_allclose(found[i % rank], columns[i], rtol=1e-10, atol=1e-15)
    assert (found[len(chosen) :] == 0).all()


@pytest.mark.parametrize("rank", [pytest.param(0, marks=SLOW), 3, pytest.param(12, marks=SLOW)])
def test_draws_have_the_mean_and_covariance_of_the_paper(rank):
    swag = bayes.SWAG(rank)
    points = RNG.normal(size=(8, 3)) * np.array([0.1, 1.0, 3.0]) + 2.0
    optimizer = swag.collect(optax.identity())
    params = {"b": jnp.asarray(0.0), "w": jnp.zeros(2)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for point in points:
        target = {"b": jnp.asarray(point[0]), "w": jnp.asarray(point[1:])}
        updates, state = update(jax.tree.map(jnp.subtract, target, params), state, params)
        params = optax.apply_updates(params, updates)
    diagonal = np.diag(points.var(0))
    columns = np.stack([w - points[: i + 1].mean(0) for i, w in enumerate(points)])[-rank:]
    low_rank = columns.T @ columns / (len(columns) - 1)
    covariance = 0.5 * (diagonal + low_rank) if rank else diagonal
    draws = flat(swag.sample(state, KEY, 40_000, scale=0.25), 1)
    error = np.sqrt(np.diag(covariance) / 4 / 40_000)
    assert (np.abs(draws.mean(0) - points.mean(0)) < 4 * error).all()
    size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(draws.T) / size, 0.25 * covariance / size, atol=0.01)
    point = flat(swag.sample(state, KEY, 1, scale=0.0), 1)[0]
    np.testing.assert_allclose(point, points.mean(0), rtol=1e-13)


def test_float32_keeps_a_small_spread_around_a_large_mean():
    """The difference of the two moments would be noise of 1e6 * 1e-7 here."""
    swag = bayes.SWAG(0)
    optimizer = swag.collect(optax.identity())
    params = jnp.zeros((), jnp.float32)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    points = np.float32(1000) + RNG.normal(size=50).astype(np.float32) * np.float32(0.01)
    for point in points:
        updates, state = update(point - params, state, params)
        params = optax.apply_updates(params, updates)
    assert state.variance.dtype == jnp.float32
    np.testing.assert_allclose(state.variance, np.var(points.astype(float)), rtol=0.02)


@pytest.fixture(scope="module")
def members():
    """Two members trained by `fit_ensemble`, which gather and keep all their weights as well."""
    swag = bayes.SWAG(3)
    start = jax.tree.map(lambda w: jnp.stack([w, w + 1.0]), START)
    optimizer = bayes.snapshots(swag.collect(optim.sgd(0.05), 5, 2), 20, 1)
    fitted = training.fit_ensemble(
        loss_fn, start, DATA, optimizer=optimizer, steps=20, batch_size=5, key=KEY, progress=False
    )
    return swag, fitted


@SLOW
def test_members_gather_for_themselves(members):
    """MultiSWAG: one program, and each member from its own iterates."""
    swag, fitted = members
    weights = flat(bayes.snapshots_of(fitted.state.opt_state), 1).reshape(2, 20, 3)
    np.testing.assert_array_equal(weights[:, -1], flat(fitted.params, 1))
    state = swag.state_of(fitted.state.opt_state)
    assert state.count.tolist() == [8, 8]
    np.testing.assert_allclose(flat(swag.mean(state), 1), weights[:, 4::2].mean(1), rtol=1e-12)
    np.testing.assert_allclose(flat(state.variance, 1), weights[:, 4::2].var(1), rtol=1e-10)
    sample = jax.jit(lambda state, key: swag.sample(state, key, 5))
    draws = sample(state, KEY)
    assert draws["w"].shape == (10, 2)
    one = jax.tree.map(lambda leaf: leaf[1], state)
    second = sample(one, jax.random.split(KEY, 2)[1])
    np.testing.assert_allclose(draws["w"][5:], second["w"], rtol=1e-9)


@SLOW
def test_training_is_not_changed(members):
    start = jax.tree.map(lambda w: w + 1.0, START)
    alone = training.fit(
        loss_fn, start, DATA, optimizer=optim.sgd(0.05), steps=20, batch_size=5,
        key=jax.random.split(KEY, 2)[1], progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(flat(alone.params), flat(members[1].params, 1)[1], rtol=1e-12)


@pytest.mark.parametrize(("kept", "chosen"), [(3, [19, 23, 27]), (9, range(3, 30, 4))])
def test_snapshots_at_the_ends_of_cycles(kept, chosen):
    schedule = optim.schedules.cosine_annealing_warm_restarts(0.1, T_0=4)
    state, weights = walk(bayes.snapshots(optim.sgd(schedule), kept, 4))
    draws = bayes.snapshots_of(state)
    np.testing.assert_array_equal(draws["w"], weights["w"][np.array(chosen)])
    np.testing.assert_array_equal(draws["b"], weights["b"][np.array(chosen)])


def test_bad_input():
    swag = bayes.SWAG(2)
    with pytest.raises(ValueError, match=r"rank must be 0 .* or at least 2; got 1"):
        bayes.SWAG(1)
    with pytest.raises(ValueError, match="every must be at least 1; got 0"):
        swag.collect(optim.sgd(0.1), every=0)
    with pytest.raises(ValueError, match="num_snapshots must be at least 1"):
        bayes.snapshots(optim.sgd(0.1), 0, 5)
    optimizer = swag.collect(optim.sgd(0.1))
    state = optimizer.init(START)
    with pytest.raises(ValueError, match="update needs the params"):
        optimizer.update(START, state)
    with pytest.raises(ValueError, match="0 iterates were gathered, at least 2"):
        swag.sample(state, KEY)
    with pytest.raises(ValueError, match="0 iterates were gathered, at least 1"):
        swag.mean(state)
    with pytest.raises(ValueError, match="holds 0 of SWAGState; expected one"):
        swag.state_of(optim.sgd(0.1).init(START))
    with pytest.raises(ValueError, match=r"holds \[2\] deviations, this SWAG has rank 5"):
        bayes.SWAG(5).sample(state, KEY)
    with pytest.raises(ValueError, match="scale must not be negative; got -1"):
        swag.sample(state, KEY, scale=-1.0)
    taken = bayes.snapshots(optim.sgd(0.1), 2, 5).init(START)
    with pytest.raises(ValueError, match="0 iterates were gathered"):
        bayes.snapshots_of(taken)


def steep(params, batch, key):
    """A quadratic whose curvature is 2 [1, 25]: plain steps of more than .04 diverge."""
    return jnp.sum(jnp.asarray([1.0, 25.0]) * params["w"] ** 2) + jnp.mean(batch["x"]), {}


def gathered(optimizer, start=(1.0, 1.0)):
    fitted = training.fit(
        steep, {"w": jnp.asarray(start)}, {"x": np.zeros(4)}, optimizer=optimizer, steps=30,
        key=KEY, progress=False,
    )  # fmt: skip
    return fitted.state.opt_state


def test_a_run_that_diverges_is_named():
    swag = bayes.SWAG(rank=4)
    state = swag.state_of(gathered(swag.collect(optim.sgd(0.01), 10)))
    np.testing.assert_allclose(state.losses[0], 26.0, rtol=1e-6)
    assert state.losses[1] < 1.0
    swag.sample(state, KEY, 2)
    state = swag.state_of(gathered(swag.collect(optim.sgd(0.0405), 10, 3)))
    message = r"loss is .* at the weights that were gathered, and was 26 at the first step"
    for use in (lambda: swag.sample(state, KEY, 2), lambda: swag.mean(state)):
        with pytest.warns(UserWarning, match=message):
            use()
    with pytest.warns(UserWarning, match=r"SWAG.sample: .* spread by .* times the size"):
        swag.sample(state._replace(losses=None), KEY, 2)
    infinite = state._replace(mean={"w": jnp.asarray([jnp.inf, 1.0])})
    with pytest.raises(ValueError, match="what was gathered of w is not finite. Lower the learn"):
        swag.sample(infinite, KEY, 2)
    with pytest.warns(UserWarning, match=r"snapshots_of: the loss is"):
        bayes.snapshots_of(gathered(bayes.snapshots(optim.sgd(0.0405), 3, 10)))


def test_a_member_that_diverges_is_named():
    swag = bayes.SWAG(rank=0)
    fitted = training.fit_ensemble(
        steep, {"w": jnp.ones((2, 2)) * jnp.asarray([[1.0, 0.0], [1.0, 1.0]])}, {"x": np.zeros(4)},
        optimizer=swag.collect(optim.sgd(0.0405), 20), steps=30, key=KEY, progress=False,
    )  # fmt: skip
    state = swag.state_of(fitted.state.opt_state)
    with pytest.warns(UserWarning, match="the loss of member 1 is"):
        swag.sample(state, KEY, 2)


def test_a_loop_of_ones_own_hands_no_loss():
    swag = bayes.SWAG(rank=0)
    state = swag.state_of(walk(swag.collect(optim.sgd(0.05), 6))[0])
    assert np.isnan(state.losses).all()
    swag.sample(state, KEY, 2)
