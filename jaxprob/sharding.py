"""Arrays on many devices: members and draws over the mesh axis "member", rows over "data".

Members are independent, so each device runs its own share of them and nothing of one member ever
leaves its device. Batches are split over "data"; params are the same on all of that axis, and the
compiler adds up their gradients. Several processes (`jax.distributed`) run the same program.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprob.types import Array

__all__ = [
    "DATA",
    "MEMBER",
    "agreed",
    "check_shares",
    "member_sharding",
    "place",
    "require_mesh",
    "same_everywhere",
    "shares_members",
    "split_rows",
    "to_host",
]

DATA, MEMBER = "data", "member"


def require_mesh(owner: str, mesh: Any) -> Mesh:
    """Returns the mesh with axes that the compiler may use freely.

    Args:
      owner: Name of the function, for messages.
      mesh: The user's mesh.

    Raises:
      ValueError: No mesh, or axes of other names.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(
            f"{owner}: mesh must be a jax.sharding.Mesh; got {type(mesh).__name__}. Write "
            'jax.make_mesh((8,), ("member",)).'
        )
    if set(mesh.axis_names) - {DATA, MEMBER}:
        raise ValueError(
            f'{owner}: the axes of mesh must be named "data" or "member"; got '
            f'{mesh.axis_names}. Write jax.make_mesh((4, 2), ("member", "data")).'
        )
    # jax.make_mesh gives explicit axes, on which every operation of a model would have to say how
    # its result is laid out.
    return Mesh(mesh.devices, mesh.axis_names)


def check_shares(
    mesh: Mesh | None,
    *,
    members: int | None,
    batch_size: int | None,
    where: str,
    names: tuple[str, str] = ("the number of members", "batch_size"),
) -> None:
    """Checks that every device gets the same number of members and of rows.

    Args:
      mesh: The mesh or None.
      members: Number of members M, or None for a single model.
      batch_size: Rows of a batch B, or None where batches come as they are.
      where: Name of the function, for messages.
      names: What the two numbers are called there.

    Raises:
      ValueError: A number that the axis does not divide, or members of a single model.
    """
    if mesh is None:
        return
    if members is None and mesh.shape.get(MEMBER, 1) > 1:
        raise ValueError(
            f"{where}: a single model has no members to share out, but mesh has "
            f'{mesh.shape[MEMBER]} devices on its axis "member". Use the axis "data", or '
            "fit_ensemble."
        )
    for axis, name, size in zip((MEMBER, DATA), names, (members, batch_size), strict=True):
        devices = mesh.shape.get(axis, 1)
        if size is not None and size % devices:
            raise ValueError(
                f'{where}: the axis "{axis}" of mesh has {devices} devices, which must divide '
                f"{name}; got {size}. Take {max(round(size / devices), 1) * devices}, or fewer "
                "devices."
            )


def shares_members(mesh: Mesh | None) -> bool:
    """Whether members are spread over devices."""
    return mesh is not None and MEMBER in mesh.axis_names


def member_sharding(mesh: Mesh, ensemble: bool, axis: int = 0) -> NamedSharding:
    """Where an array with members on one axis lives; everywhere, for a single model."""
    spread = ensemble and shares_members(mesh)
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, MEMBER) if spread else PartitionSpec())


def split_rows(mesh: Mesh | None, batch: dict[str, Array]) -> dict[str, Array]:
    """Splits the rows of a batch over "data", where the axis divides them (inside a program)."""
    if mesh is None or DATA not in mesh.axis_names:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    return {
        name: jax.lax.with_sharding_constraint(value, sharding)
        if value.ndim and value.shape[0] % mesh.shape[DATA] == 0
        else value
        for name, value in batch.items()
    }


def same_everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """Keeps params the same on all of the axis "data" (inside a program)."""
    if mesh is None or DATA not in mesh.axis_names:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), tree)


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Puts arrays where they belong; each process copies its own part and no more."""

    def one(leaf: Any) -> Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def to_host(array: Any) -> np.ndarray:
    """A small array as NumPy, on every process."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
        array = jax.jit(lambda x: x, out_shardings=everywhere)(array)
    return np.asarray(array)


def agreed(value: int, shared: bool) -> int:
    """The number of the first process, for all: what they run together must be the same."""
    if not shared:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
