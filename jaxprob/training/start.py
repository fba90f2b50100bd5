"""The state before the first epoch: members, their optimisers, what each has of its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxprob.sharding import member_sharding, place
from jaxprob.training.loop import every_epoch
from jaxprob.training.plan import LoopState, Member, Plan
from jaxprob.training.programs import Programs
from jaxprob.training.step import TrainState
from jaxprob.types import Array, Batch, Key, Metrics, Params

__all__ = ["first_member", "on_mesh", "start", "with_hyperparams"]


def start(plan: Plan, member: Member, data: Batch, validation: Batch | None) -> LoopState:
    """Returns the state before the first epoch.

    Args:
      plan: The plan of the run.
      member: The members before the first step, `[M, ...]` on every leaf for an ensemble.
      data: Training data on the device.
      validation: Validation data or None.
    """
    epoch = jax.device_put(np.zeros((), np.int32))
    shapes = jax.eval_shape(
        functools.partial(every_epoch, plan=plan), member, epoch, data, validation
    )[1]
    return on_mesh(plan, LoopState(member, epoch, empty_history(plan, shapes)))


def first_member(
    plan: Plan, params: Params, key: Key, validated: bool, own: dict[str, Any] | None = None
) -> Member:
    """Returns the members before the first step, each on its device.

    All of it is new memory, since the loop writes over its state.

    Args:
      plan: The plan of the run.
      params: Pytree, `[M, ...]` on every leaf for an ensemble.
      key: Key, `[M]` for an ensemble.
      validated: Whether the best params are kept.
      own: Numbers `[M]` that members have of their own: hyperparameters of the optimiser, and those
        from which their loss is made.
    """
    own = own or {}
    create = functools.partial(
        _create, optimizer=plan.optimizer, ensemble=plan.ensemble, validated=validated
    )
    if plan.mesh is None:
        return create(params, key, own)
    sharding, impl = member_sharding(plan.mesh, plan.ensemble), jax.random.key_impl(key)
    parts = place((params, np.asarray(jax.random.key_data(key)), own), sharding)
    wrapped = jax.jit(
        lambda params, words, own: create(params, jax.random.wrap_key_data(words, impl=impl), own),
        out_shardings=sharding,
    )
    return wrapped(*parts)


def _members(
    params: Params,
    key: Key,
    own: dict[str, Array],
    *,
    optimizer: optax.GradientTransformation,
    ensemble: bool,
    validated: bool,
) -> Member:
    """One program: operation by operation, a start takes longer than hundreds of steps."""

    def one(member_params: Params, member_key: Key, own: dict[str, Array]) -> Member:
        train = TrainState.create(member_params, optimizer)
        opt_state, others = with_hyperparams(train.opt_state, own)
        return Member(
            train=train._replace(opt_state=opt_state),
            key=jnp.copy(member_key),
            best_params=jax.tree.map(jnp.copy, member_params) if validated else (),
            best_loss=jnp.asarray(jnp.inf, jnp.result_type(float)),
            best_epoch=jnp.zeros((), jnp.int32),
            finite=jnp.asarray(True),
            valid=jnp.asarray(True),
            patient=jnp.asarray(True),
            active=jnp.asarray(True),
            settings=others,
        )

    return (jax.vmap(one) if ensemble else one)(params, key, own)


_create = Programs(_members, ("optimizer", "ensemble", "validated"))


def with_hyperparams(opt_state: Any, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Sets what `optax.inject_hyperparams` keeps in its state.

    Args:
      opt_state: State of an optimiser.
      values: Numbers by name.

    Returns:
      The state with them, and those that no injected optimiser in it has.

    Raises:
      ValueError: A name that follows a schedule, which would overwrite the number at each step, or
        one that the state was already made from.
    """
    found = set()

    def one(state: Any) -> Any:
        if not _is_injected(state):
            return state
        own = {name: values[name] for name in state.hyperparams if name in values}
        for name in own:
            if name in getattr(state, "hyperparams_states", {}):
                raise ValueError(
                    f"fit_ensemble: {name} follows a schedule in the optimiser, which would "
                    "overwrite hyperparams. Inject a number in its place."
                )
            if name.startswith("initial_"):
                raise ValueError(
                    f"fit_ensemble: the state of the optimiser was made from {name}, so that "
                    "members cannot have their own. Train them one after the other."
                )
        found.update(own)
        new = {
            name: jnp.asarray(own[name], value.dtype) if name in own else value
            for name, value in state.hyperparams.items()
        }
        return state._replace(hyperparams=new, inner_state=visit(state.inner_state))

    def visit(tree: Any) -> Any:
        return jax.tree.map(one, tree, is_leaf=_is_injected)

    opt_state = visit(opt_state)
    return opt_state, {name: value for name, value in values.items() if name not in found}


def _is_injected(state: Any) -> bool:
    return hasattr(state, "hyperparams") and hasattr(state, "inner_state")


def empty_history(plan: Plan, shapes: dict[str, Any]) -> Metrics:
    """Returns NaN for every metric and epoch, `[epochs, (M)]`."""
    return {
        name: jax.device_put(np.full((plan.epochs, *leaf.shape), np.nan, leaf.dtype))
        for name, leaf in shapes.items()
    }


def on_mesh(plan: Plan, state: LoopState) -> LoopState:
    """Puts the state where it belongs, always in the same way, so that nothing compiles twice."""
    if plan.mesh is None:
        return state
    everywhere = NamedSharding(plan.mesh, PartitionSpec())
    return LoopState(
        place(state.member, member_sharding(plan.mesh, plan.ensemble)),
        place(state.epoch, everywhere),
        place(state.history, member_sharding(plan.mesh, plan.ensemble, axis=1)),
    )
