"""Checkpoints: a run killed at any instant goes on to the same bits as one never killed.

A checkpoint is the whole state of the loop (params, optimiser state, keys, steps, best params,
early stopping, history) and a description of the run that it belongs to. Orbax writes it in the
background and commits it at once, so a kill leaves either the whole of it or nothing; the state is
copied before, since the training loop goes on and overwrites its own.
"""

import hashlib
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.sharding import agreed, to_host

__all__ = ["Checkpoints", "describe_run"]

SECONDS_BETWEEN_CHECKPOINTS = 30.0
"""Without `checkpoint_every`, one is written about this often, at the end of an epoch."""

MAX_TO_KEEP = 2
"""Older checkpoints are removed; two, so that one is whole whatever happens to the other."""


def describe_run(settings: Mapping[str, Any], **trees: Any) -> dict[str, str]:
    """Returns what makes a run this run and no other, as names and texts.

    Args:
      settings: Numbers and names.
      **trees: Pytrees (data, initial params, keys) of which shape, dtype and content count.
    """
    described = {name: str(value) for name, value in settings.items()}
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            described[name + jax.tree_util.keystr(path)] = _describe_array(leaf)
    return described


class Checkpoints:
    """The checkpoints of one run in one directory.

    Args:
      directory: Where they are; made if it does not exist.
      run: Description of the run, from `describe_run`.
      every: Epochs between two checkpoints; None for about one in 30 seconds.
      resume: False refuses a directory that holds checkpoints.
      shared: Whether several processes train this run together.

    Raises:
      ValueError: The directory holds another run, or any run with `resume=False`.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        run: dict[str, str],
        *,
        every: int | None,
        resume: bool,
        shared: bool,
    ):
        import orbax.checkpoint as ocp

        self._ocp, self._run, self._shared = ocp, run, shared
        self.every = every
        self._path = pathlib.Path(directory).absolute()
        if self._path.exists() and not self._path.is_dir():
            raise ValueError(f"fit: checkpoint_dir must be a directory; {self._path} is a file.")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=MAX_TO_KEEP, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(
            self._path, options=options, item_names=("state", "run")
        )
        self._last = time.monotonic()
        try:
            self._refuse_others(resume)
        except BaseException:
            self._manager.close()
            raise

    def _refuse_others(self, resume: bool) -> None:
        latest = self._manager.latest_step()
        if latest is None:
            return
        if not resume:
            raise ValueError(
                f"fit: checkpoint_dir {self._path} holds checkpoints, and resume=False starts "
                "afresh. Give resume=True to go on from them, another directory, or delete it."
            )
        there, here = self._meta(latest)["run"], self._run
        names = [n for n in {**here, **there} if there.get(n) != here.get(n)]
        if names:
            no = "not there"
            told = "; ".join(
                f"{n} is {there.get(n, no)} in the checkpoint and {here.get(n, no)} here"
                for n in names[:5]
            )
            more = f"; and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(
                f"fit: checkpoint_dir {self._path} belongs to another run: {told}{more}. Give the "
                "arguments of that run to go on with it, or another directory."
            )

    def epochs_done(self) -> int:
        """Epochs of the latest checkpoint, 0 where there is none."""
        latest = self._manager.latest_step()
        return 0 if latest is None else self._meta(latest)["epoch"]

    def restore(self, state: Any, length: int, steps: int | None) -> Any:
        """Returns the state of the latest checkpoint, or None where there is none.

        Args:
          state: A state `(member, epoch, history)` before the first epoch, whose shapes, dtypes and
            shardings the restored one takes.
          length: Epochs of the run that is to go on.
          steps: Its steps, or None.

        Raises:
          ValueError: The checkpoint is already further than that.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            meta = self._meta(step)
            if meta["cut"] is not None and meta["cut"] != steps:
                # Its last epoch was cut short by the steps of that time: not a place to go on from.
                if steps is not None and steps < meta["cut"]:
                    raise ValueError(
                        f"fit: the run in {self._path} has taken {meta['cut']} steps already; got "
                        f"steps={steps}. Give at least as many, or another directory."
                    )
                self._manager.delete(step)
                continue
            if steps is not None and meta["steps"] > steps:
                raise ValueError(
                    f"fit: the run in {self._path} has taken {meta['steps']} steps already; got "
                    f"steps={steps}. Give at least as many, or another directory."
                )
            if meta["epoch"] > length:
                raise ValueError(
                    f"fit: the run in {self._path} is {meta['epoch']} epochs long already; got a "
                    f"length of {length}. Give at least as many, or another directory."
                )
            return self._read(step, meta, state)
        return None

    def _read(self, step: int, meta: dict, state: Any) -> Any:
        member, _, history = state
        names = list(history)
        told = jax.tree.map(_plain, member)
        wanted = {f"member {i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(told))}
        rows = meta["epoch"]
        for i, name in enumerate(names):
            wanted[f"history {i:05d}"] = history[name][:rows]
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
            if leaf.size
        }
        args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(abstract))
        found = {**wanted, **self._manager.restore(step, args=args).state}
        leaves = [found[f"member {i:05d}"] for i in range(len(jax.tree.leaves(told)))]
        typed = [
            jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new
            for new, old in zip(leaves, jax.tree.leaves(member), strict=True)
        ]
        history = {
            name: history[name].at[:rows].set(found[f"history {i:05d}"])
            for i, name in enumerate(names)
        }
        epoch = jnp.asarray(rows, jnp.int32)
        return jax.tree.unflatten(jax.tree.structure(member), typed), epoch, history

    def until(self, done: int, until: int) -> int:
        """The epoch at which to look in at the latest, coming from `done`."""
        return until if self.every is None else min(until, (done // self.every + 1) * self.every)

    def due(self, epoch: int) -> bool:
        """Whether it is time for a checkpoint after that many epochs."""
        if self.every is not None:
            return epoch % self.every == 0
        late = time.monotonic() - self._last > SECONDS_BETWEEN_CHECKPOINTS
        return bool(agreed(int(late), self._shared))

    def save(self, state: Any, epoch: int, cut: int | None) -> None:
        """Writes a checkpoint in the background.

        Args:
          state: `(member, epoch, history)`.
          epoch: Epochs run so far.
          cut: The number of steps, where they ended the last epoch before its end.
        """
        if epoch in self._manager.all_steps():
            return
        member, _, history = state
        leaves = jax.tree.leaves(jax.tree.map(_plain, member))
        items = {f"member {i:05d}": leaf for i, leaf in enumerate(leaves)}
        items |= {f"history {i:05d}": history[n][:epoch] for i, n in enumerate(history)}
        # The loop donates its buffers to its next call, while these are still being written.
        items = {name: jnp.copy(leaf) for name, leaf in items.items() if leaf.size}
        taken = int(np.max(to_host(member.train.step)))
        meta = {"run": self._run, "epoch": epoch, "cut": cut, "steps": taken}
        args = self._ocp.args
        self._manager.save(
            epoch,
            args=args.Composite(state=args.StandardSave(items), run=args.JsonSave(meta)),
            force=True,
        )
        self._last = time.monotonic()

    def close(self) -> None:
        """Waits for the last checkpoint to be on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _meta(self, step: int) -> dict:
        args = self._ocp.args.Composite(run=self._ocp.args.JsonRestore())
        return self._manager.restore(step, args=args).run


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    """A typed key as the integers that it is: files know no keys."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _describe_array(leaf: Any) -> str:
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    told = f"{leaf.dtype}{list(leaf.shape)}"
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return told
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return told  # nobody holds the whole of it
    array = np.ascontiguousarray(to_host(_plain(leaf)))
    return f"{told} with hash {hashlib.blake2b(array.tobytes(), digest_size=6).hexdigest()}"
