"""Weights gathered along one training run: SWA, SWAG, snapshots.

SWAG fits a Gaussian to the iterates w_1, ..., w_n that SGD visits at the end of a run,

    mean     wbar = 1/n sum_i w_i                          (SWA)
    diagonal Sigma = diag(1/n sum_i (w_i - wbar)^2)
    low rank D     = the last K columns w_i - wbar_i,  wbar_i being the mean of the first i

and a draw is, with z1 and z2 standard normal,

    w = wbar + Sigma^{1/2} z1 / sqrt(2) + D z2 / sqrt(2 (K - 1))

Snapshots are the iterates themselves, at the ends of the cycles of a cyclical learning rate.

Both wrap any optax optimiser and change none of its steps; what they gather is part of its state,
so that they work inside `training.fit`, and inside `fit_ensemble`, where each member gathers for
itself (MultiSWAG). Gathered are params; a model with batch statistics needs new ones for each draw.

Twin: `torch_ref/bayes/swag.py`. Sources: Izmailov et al., "Averaging weights leads to wider optima
and better generalization" (2018); Maddox et al., "A simple baseline for Bayesian uncertainty in
deep learning" (2019), equation 1 and algorithm 1; Wilson & Izmailov, "Bayesian deep learning and a
probabilistic perspective of generalization" (2020) for MultiSWAG; Huang et al., "Snapshot
ensembles" (2017).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.bayes import swag_checks
from jaxprob.bayes.summary import summary
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import Array, Key, Params

__all__ = ["SWAG", "SWAGState", "SnapshotState", "snapshots", "snapshots_of"]


class SWAGState(NamedTuple):
    """What has been gathered (under an ensemble every leaf leads with M).

    Attributes:
      inner: State of the wrapped optimiser.
      step: Number of steps taken, int32 `[]`.
      count: Number of iterates gathered n, int32 `[]`.
      mean: Their mean, a pytree like the params.
      variance: Their variance, divisor n; running about the running mean, since the difference of
        the two moments would leave no digits of it in float32.
      deviations: The last K deviations, each leaf `[K, ...]`, the next one to write at n mod K.
      losses: Loss at the first step and its mean over the iterates, `[2]`; NaN where the loop does
        not hand the optimiser the value of the loss (`training` does).
    """

    inner: Any
    step: Array
    count: Array
    mean: Params
    variance: Params
    deviations: Params
    losses: Any = None

    def __repr__(self) -> str:
        return summary(
            "SWAGState", step=self.step, count=self.count, mean=self.mean, losses=self.losses
        )


class SnapshotState(NamedTuple):
    """Snapshots taken so far (under an ensemble every leaf leads with M).

    Attributes:
      inner: State of the wrapped optimiser.
      step: Number of steps taken, int32 `[]`.
      count: Number of snapshots taken, int32 `[]`.
      weights: The last S of them, each leaf `[S, ...]`, the next one to write at count mod S.
      losses: As in `SWAGState`, the mean over all snapshots.
    """

    inner: Any
    step: Array
    count: Array
    weights: Params
    losses: Any = None

    def __repr__(self) -> str:
        return summary(
            "SnapshotState", step=self.step, count=self.count, weights=self.weights,
            losses=self.losses,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SWAG:
    """A Gaussian over the weights, from the iterates of SGD.

        swag = bayes.SWAG(rank=20)
        optimizer = swag.collect(optim.sgd(1e-2), start=1000, every=50)
        fitted = training.fit(loss_fn, params, data, optimizer=optimizer, ...)
        draws = swag.sample(swag.state_of(fitted.state.opt_state), key, num_draws=30)

    The iterates spread only where the learning rate stays high; a decayed one leaves a point.

    Attributes:
      rank: Columns K of the low-rank part; 0 for the diagonal alone (SWAG-diagonal, whose draws are
        wbar + Sigma^{1/2} z1), else at least 2.
    """

    rank: int = 20

    def __post_init__(self):
        require_count("SWAG", least=0, rank=self.rank)
        if self.rank == 1:
            raise ValueError(
                f"SWAG: rank must be 0 (diagonal alone) or at least 2; got {self.rank}. The paper "
                "takes 20."
            )

    def collect(
        self, optimizer: optax.GradientTransformation, start: int = 1, every: int = 1
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optimiser, with the same steps, gathering the weights that it reaches.

        Args:
          optimizer: Any optax transformation, the whole of it: put a chain inside.
          start: The first iterate gathered is that after this many steps.
          every: Steps between iterates; one epoch is usual.

        Returns:
          A transformation whose state is a `SWAGState`.

        Raises:
          ValueError: Numbers below 1.
        """
        require_count("SWAG.collect", start=start, every=every)
        inner = optax.with_extra_args_support(optimizer)

        def init(params: Params) -> SWAGState:
            zeros = jax.tree.map(jnp.zeros_like, params)
            columns = jax.tree.map(
                lambda leaf: jnp.zeros((self.rank, *jnp.shape(leaf)), jnp.result_type(leaf)), params
            )
            zero = jnp.zeros((), jnp.int32)
            return SWAGState(
                inner.init(params), zero, zero, zeros, zeros, columns, swag_checks.no_losses()
            )

        def update(updates: Any, state: SWAGState, params: Params = None, **extra: Any):
            updates, inner_state = inner.update(updates, state.inner, params, **extra)
            weights = _reached("SWAG.collect", params, updates)
            step = state.step + 1
            taken = (step >= start) & ((step - start) % every == 0)
            new = self._gather(state, weights, taken)
            losses = swag_checks.with_loss(state.losses, step, new.count, taken, extra)
            return updates, new._replace(inner=inner_state, step=step, losses=losses)

        return optax.GradientTransformationExtraArgs(init, update)

    def _gather(self, state: SWAGState, weights: Params, taken: Array) -> SWAGState:
        count = state.count + taken

        def running(old: Array, new: Array) -> Array:
            step = (new - old) / jnp.maximum(count, 1).astype(old.dtype)
            return jnp.where(taken, old + step, old)

        mean = jax.tree.map(running, state.mean, weights)
        variance = jax.tree.map(
            lambda v, w, before, after: running(v, (w - before) * (w - after)),
            state.variance, weights, state.mean, mean,
        )  # fmt: skip
        deviations = state.deviations
        if self.rank:
            # Past the end of the ring nothing is written.
            slot = jnp.where(taken, state.count % self.rank, self.rank)
            deviations = jax.tree.map(
                lambda d, w, m: d.at[slot].set(w - m, mode="drop"), deviations, weights, mean
            )
        return state._replace(count=count, mean=mean, variance=variance, deviations=deviations)

    def state_of(self, opt_state: Any) -> SWAGState:
        """Returns the `SWAGState` in the state of an optimiser, e.g. `fitted.state.opt_state`.

        Raises:
          ValueError: There is none, or several.
        """
        return _state_of(opt_state, SWAGState, "swag.collect(optimizer)")

    def mean(self, state: SWAGState) -> Params:
        """Returns the mean of the iterates (SWA), a params pytree; of each member under M.

        Raises:
          ValueError: No iterates, or a run that diverged to infinity; a `UserWarning` says that it
            diverges.
        """
        _require_gathered("SWAG.mean", state.count, 1)
        swag_checks.check_run("SWAG.mean", state.losses, state.mean, state.variance)
        return state.mean

    def sample(self, state: SWAGState, key: Key, num_draws: int = 1, scale: float = 1.0) -> Params:
        """Returns draws of the weights.

        Args:
          state: What was gathered, at least 2 iterates.
          key: One key for all draws; member m of an ensemble uses `jax.random.split(key, M)[m]`.
          num_draws: Number of draws S, of each member.
          scale: Factor on the covariance; 0 gives the mean, 1 the equation above.

        Returns:
          A params pytree with leading axis S (M * S under an ensemble: a mixture of Gaussians).

        Raises:
          ValueError: Too few iterates, a negative scale, a state of another rank, or iterates that
            are not finite. A `UserWarning` says that the run diverged.
        """
        require_count("SWAG.sample", num_draws=num_draws)
        require_non_negative("SWAG.sample", scale=scale)
        columns = {jnp.shape(d)[jnp.ndim(state.count)] for d in jax.tree.leaves(state.deviations)}
        if columns != {self.rank}:
            raise ValueError(
                f"SWAG.sample: the state holds {sorted(columns)} deviations, this SWAG has rank "
                f"{self.rank}. Sample with the SWAG that gathered."
            )
        _require_gathered("SWAG.sample", state.count, 2)
        swag_checks.check_run("SWAG.sample", state.losses, state.mean, state.variance)
        if jnp.ndim(state.count) == 0:
            return self._sample(state, key, num_draws, scale)
        keys = jax.random.split(key, len(state.count))
        draws = jax.vmap(lambda s, k: self._sample(s, k, num_draws, scale))(state, keys)
        return _flatten_members(draws)

    def _sample(self, state: SWAGState, key: Key, num_draws: int, scale: float) -> Params:
        diagonal_key, low_rank_key = jax.random.split(key)
        means, tree = jax.tree.flatten(state.mean)
        variances = jax.tree.leaves(state.variance)
        deviations = jax.tree.leaves(state.deviations)
        columns = jnp.minimum(state.count, self.rank)
        draws = []
        for i, (mean, variance, columns_of_leaf) in enumerate(
            zip(means, variances, deviations, strict=True)
        ):
            leaf_key = jax.random.fold_in(diagonal_key, i)
            z1 = jax.random.normal(leaf_key, (num_draws, *mean.shape), mean.dtype)
            noise = jnp.sqrt(jnp.maximum(variance, 0.0))[None] * z1
            if self.rank:
                z2 = jax.random.normal(low_rank_key, (num_draws, self.rank), mean.dtype)
                freedom = jnp.maximum(columns - 1, 1).astype(mean.dtype)
                low_rank = jnp.tensordot(z2, columns_of_leaf, axes=1) / jnp.sqrt(freedom)
                noise = (noise + low_rank) / jnp.sqrt(jnp.asarray(2.0, mean.dtype))
            draws.append(mean[None] + jnp.sqrt(jnp.asarray(scale, mean.dtype)) * noise)
        return jax.tree.unflatten(tree, draws)


def snapshots(
    optimizer: optax.GradientTransformation, num_snapshots: int, every: int
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser, with the same steps, keeping the weights at the end of each cycle.

    The learning rate goes up and down once in each cycle, e.g.
    `optim.sgd(optim.schedules.cosine_annealing_warm_restarts(0.1, T_0=every))`.

    Args:
      optimizer: Any optax transformation, the whole of it.
      num_snapshots: How many to keep, the last ones, S.
      every: Steps of a cycle.

    Returns:
      A transformation whose state is a `SnapshotState`; `snapshots_of` reads it.

    Raises:
      ValueError: Numbers below 1.

    Source: Huang et al., "Snapshot ensembles" (2017), section 3.
    """
    require_count("snapshots", num_snapshots=num_snapshots, every=every)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> SnapshotState:
        weights = jax.tree.map(
            lambda leaf: jnp.zeros((num_snapshots, *jnp.shape(leaf)), jnp.result_type(leaf)), params
        )
        zero = jnp.zeros((), jnp.int32)
        return SnapshotState(inner.init(params), zero, zero, weights, swag_checks.no_losses())

    def update(updates: Any, state: SnapshotState, params: Params = None, **extra: Any):
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        reached = _reached("snapshots", params, updates)
        step = state.step + 1
        # Past the end of the ring nothing is written.
        slot = jnp.where(step % every == 0, state.count % num_snapshots, num_snapshots)
        weights = jax.tree.map(
            lambda kept, w: kept.at[slot].set(w, mode="drop"), state.weights, reached
        )
        taken = step % every == 0
        count = state.count + taken
        losses = swag_checks.with_loss(state.losses, step, count, taken, extra)
        return updates, SnapshotState(inner_state, step, count, weights, losses)

    return optax.GradientTransformationExtraArgs(init, update)


def snapshots_of(opt_state: Any) -> Params:
    """Returns the snapshots as draws for `bayes.predict`, the oldest first.

    Args:
      opt_state: State of an optimiser that `snapshots` has wrapped, e.g. `fitted.state.opt_state`.

    Returns:
      A params pytree with leading axis S, or fewer where the run was shorter; M * S of an ensemble.

    Raises:
      ValueError: No such state, no snapshot taken yet, or snapshots that are not finite. A
        `UserWarning` says that the run diverged.
    """
    state = _state_of(opt_state, SnapshotState, "bayes.snapshots(optimizer, ...)")
    _require_gathered("snapshots_of", state.count, 1)
    counts = np.atleast_1d(np.asarray(state.count))
    if len(set(counts.tolist())) != 1:
        raise ValueError(f"snapshots_of: members have taken {counts.tolist()} snapshots.")
    count, axis = int(counts[0]), np.ndim(state.count)

    def in_order(leaf: Array) -> Array:
        size = leaf.shape[axis]
        order = np.arange(count - min(count, size), count) % size
        return jnp.take(leaf, order, axis=axis)

    draws = jax.tree.map(in_order, state.weights)
    swag_checks.check_run("snapshots_of", state.losses, draws)
    return _flatten_members(draws) if axis else draws


def _reached(owner: str, params: Params, updates: Params) -> Params:
    """The weights after the step, which optax shows to nobody."""
    if params is None:
        raise ValueError(f"{owner}: update needs the params. Write optimizer.update(g, s, params).")
    return optax.apply_updates(params, updates)


def _state_of(opt_state: Any, kind: type, maker: str) -> Any:
    def inside(tree: Any) -> list[Any]:
        found = []
        for leaf in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind)):
            if isinstance(leaf, kind):
                found += [leaf, *inside(getattr(leaf, "inner"))]  # noqa: B009
        return found

    found = inside(opt_state)
    if len(found) != 1:
        raise ValueError(
            f"the state of the optimiser holds {len(found)} of {kind.__name__}; expected one. "
            f"Train with {maker}."
        )
    return found[0]


def _require_gathered(owner: str, count: Array, least: int) -> None:
    if not isinstance(count, jax.core.Tracer) and np.min(np.asarray(count)) < least:
        raise ValueError(
            f"{owner}: {int(np.min(np.asarray(count)))} iterates were gathered, at least {least} "
            "are needed. Train longer, start earlier, or gather more often."
        )


def _flatten_members(draws: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), draws)
