"""Trial steps of both sides from one state, on copies: the proof that a state was moved right."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.interop.optimizer_groups import Groups
from jaxprob.interop.optimizer_kinds import COUNTERS
from jaxprob.interop.optimizer_tree import state_names
from jaxprob.interop.transfer import as_array, as_tensor, convert_to_flax

__all__ = ["try_steps"]

STEPS = 8
"""More than the five of RAdam without rectification."""

ALLOWED = {"float64": 1e-10, "float32": 1e-3}
"""Of the largest update; optax's bias correction is off by 1e-5 in float32, its RAdam by 1e-11."""


def try_steps(
    action: str,
    transformation: optax.GradientTransformation,
    state: Any,
    params: Any,
    move: Any,
    groups: Groups,
    written: dict[str, dict[str, Any]],
) -> None:
    """Takes a few steps of both sides along made-up gradients.

    Args:
      action: Name of the caller, for messages.
      transformation: The optax side.
      state: Its state.
      params: Params of both sides.
      move: Names and links of the two.
      groups: Hyperparameters of the torch side.
      written: State of the torch side by the name of the parameter.

    Raises:
      ValueError: The two take different steps.
    """
    update = optax.with_extra_args_support(transformation).update
    tensors, optimizer = _copies(move, groups, params, written)
    trained = [name for name in groups.index if move.tensors[name].requires_grad]
    # a schedule moves on here and not there, so that the next step alone must agree
    scheduled = any(name in COUNTERS for name in state_names(state))
    rng = np.random.default_rng(0)
    for number in range(1, 2 if scheduled else STEPS + 1):
        before, structure = jax.tree.flatten(params)
        gradients = [jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in before]
        flat = dict(zip(move.leaves, gradients, strict=True))
        for name, array in move.to_torch(flat).items():
            if name in trained:
                tensors[name].grad = as_tensor(array).to(tensors[name].device)
        optimizer.step()
        try:
            updates, state = update(jax.tree.unflatten(structure, gradients), state, params)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{action}: update of the transformation needs more than the gradients that an "
                f"optimiser of torch gets ({error})."
            ) from error
        params = optax.apply_updates(params, updates)
        _compare(action, move, tensors, before, params, number)


def _copies(move: Any, groups: Groups, params: Any, written: dict) -> Any:
    """The parameters and the optimiser, apart from the user's."""
    import torch

    arrays = move.to_torch(dict(zip(move.leaves, jax.tree.leaves(params), strict=True)))
    tensors = {
        name: torch.nn.Parameter(as_tensor(arrays[name]).to(move.tensors[name].device))
        for name in move.names
    }
    parts = []
    for index, hyper in enumerate(groups.hyper):
        inside = [tensors[name] for name, group in groups.index.items() if group == index]
        if inside:
            parts.append({**hyper, "params": inside})
    optimizer = type(move.optimizer)(parts)
    for name, entry in written.items():
        optimizer.state[tensors[name]] = copy.deepcopy(entry)
    return tensors, optimizer


def _compare(action: str, move: Any, tensors: dict, before: list, after: Any, number: int) -> None:
    there = convert_to_flax(move.links, move.tree, lambda name: as_array(tensors[name]))
    for (path, old), new in zip(
        zip(move.leaves, before, strict=True), jax.tree.leaves(after), strict=True
    ):
        theirs = np.asarray(there[("params", *path)], float)
        ours, old = np.asarray(new, float), np.asarray(old, float)
        allowed = ALLOWED.get(str(new.dtype), 3e-2)
        eps = float(jnp.finfo(new.dtype).eps)
        size = max(np.max(np.abs(ours - old), initial=0), np.max(np.abs(theirs - old), initial=0))
        rounding = 32 * eps * np.max(np.abs(old), initial=0)
        gap = float(np.max(np.abs(ours - theirs), initial=0))
        if not gap <= allowed * size + rounding:
            raise ValueError(
                f"{action}: after {number} trial steps {'/'.join(map(str, path))} is {gap:.1e} "
                f"apart, {gap / max(size, 1e-300):.1e} of its update: the transformation is "
                f"another algorithm than torch.optim.{move.kind}, or has other hyperparameters "
                "(learning rate, eps, weight decay)."
            )
