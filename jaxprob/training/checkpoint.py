"""Checkpoints: a run killed at any instant goes on to the same bits as one never killed.

A checkpoint is the whole state of the loop (params, optimiser state, keys, steps, best params,
early stopping, history) and a description of the run that it belongs to. Orbax writes it in the
background and commits it at once, so a kill leaves either the whole of it or nothing; the state is
copied before, since the training loop goes on and overwrites its own. Beside the arrays stand their
hashes: a checkpoint that is damaged is put aside, and the run goes on from the one before.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.sharding import agreed, to_host
from jaxprob.training.lock import DirectoryLock
from jaxprob.training.manifest import damaged_file, has_hashes, write_hashes

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
      owner: "fit" or "fit_ensemble", for messages.

    Raises:
      ValueError: The directory holds another run, or any run with `resume=False`; another run is
        writing to it; or all of its checkpoints are damaged.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        run: dict[str, str],
        *,
        every: int | None,
        resume: bool,
        shared: bool,
        owner: str = "fit",
    ):
        import orbax.checkpoint as ocp

        self._ocp, self._run, self._shared, self._owner = ocp, run, shared, owner
        self.every = every
        self._path = pathlib.Path(directory).absolute()
        if self._path.exists() and not self._path.is_dir():
            raise ValueError(
                f"{owner}: checkpoint_dir must be a directory; {self._path} is a file."
            )
        self._path.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._open()
            self._refuse_others(resume)
        except BaseException:
            self._release()
            raise
        self._last = time.monotonic()

    def _locked(self) -> DirectoryLock | None:
        """Of several processes that train together the first one holds the directory for all."""
        if not self._shared:
            return DirectoryLock(self._path, self._owner)
        lock, refused = None, None
        if jax.process_index() == 0:
            try:
                lock = DirectoryLock(self._path, self._owner)
            except ValueError as error:
                refused = error
        if not agreed(int(refused is None), shared=True):
            if refused is not None:
                raise refused
            self._refuse("is in use by another run, as the first process has found.")
        return lock

    def _open(self) -> None:
        options = self._ocp.CheckpointManagerOptions(
            max_to_keep=MAX_TO_KEEP, cleanup_tmp_directories=True
        )
        self._manager = self._ocp.CheckpointManager(
            self._path, options=options, item_names=("state", "run")
        )
        self._metas: dict[int, dict] = {}
        self._written: set[int] = set()
        self._damage: str | None = None

    def _release(self) -> None:
        with contextlib.suppress(Exception):
            if hasattr(self, "_manager"):
                self._manager.close()
        if self._lock is not None:
            self._lock.release()

    def _refuse_others(self, resume: bool) -> None:
        steps = self._whole_steps()
        if not steps:
            return
        if not resume:
            self._refuse(
                "holds checkpoints, and resume=False starts afresh. Give resume=True to go on from "
                "them, another directory, or delete it."
            )
        there, here = self._metas[steps[0]]["run"], self._run
        names = [n for n in {**here, **there} if there.get(n) != here.get(n)]
        if names:
            no = "not there"
            told = "; ".join(
                f"{n} is {there.get(n, no)} in the checkpoint and {here.get(n, no)} here"
                for n in names[:5]
            )
            more = f"; and {len(names) - 5} more" if len(names) > 5 else ""
            self._refuse(
                f"belongs to another run: {told}{more}. Give the arguments of that run to go on "
                "with it, or another directory."
            )

    def _refuse(self, sentence: str) -> NoReturn:
        raise ValueError(f"{self._owner}: checkpoint_dir {self._path} {sentence}")

    def _whole_steps(self) -> list[int]:
        """The checkpoints whose description can be read, newest first; damaged ones are put aside.

        Raises:
          ValueError: There are checkpoints, and all of them are damaged.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            if step not in self._metas:
                try:
                    if (why := damaged_file(self._path / str(step))) is not None:
                        raise ValueError(why)
                    self._metas[step] = self._meta(step)
                except Exception as error:
                    self._put_aside(step, error)
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps and self._damage is not None:
            self._refuse(
                f"holds no checkpoint that is whole: {self._damage}. Give another directory, or "
                "delete it to start afresh."
            )
        return steps

    def _put_aside(self, step: int, error: Exception) -> None:
        """Renames a damaged checkpoint and says so; the run goes on from the one before."""
        path = self._path / str(step)
        why = " ".join(str(error).split())[:300] or type(error).__name__
        self._damage = f"{path} is damaged ({why})"
        if self._shared:  # the processes would not agree on where to go on
            self._refuse(
                f"holds a damaged checkpoint: {self._damage}. Delete it to go on from the one "
                "before."
            )
        aside = self._path / f"damaged-{step}"
        if aside.exists():
            shutil.rmtree(aside)
        if path.exists():
            path.rename(aside)
        self._manager.reload()
        warnings.warn(
            f"{self._owner}: the checkpoint {self._damage}. It is kept as {aside.name}, and the "
            "run goes on from the checkpoint before.",
            stacklevel=2,
        )

    def epochs_done(self) -> int:
        """Epochs of the latest checkpoint, 0 where there is none."""
        steps = self._whole_steps()
        return self._metas[steps[0]]["epoch"] if steps else 0

    def restore(self, state: Any, length: int, steps: int | None) -> Any:
        """Returns the state of the latest whole checkpoint, or None where there is none.

        Args:
          state: A state `(member, epoch, history)` before the first epoch, whose shapes, dtypes and
            shardings the restored one takes.
          length: Epochs of the run that is to go on.
          steps: Its steps, or None.

        Raises:
          ValueError: The checkpoint is already further than that, of other metrics, or none is
            whole.
        """
        while found := self._whole_steps():
            step, meta = found[0], self._metas[found[0]]
            if meta["cut"] is not None and meta["cut"] != steps:
                # Its last epoch was cut short by the steps of that time: not a place to go on from.
                if steps is not None and steps < meta["cut"]:
                    self._refuse_length(f"has taken {meta['cut']} steps", f"steps={steps}")
                self._manager.delete(step)
                continue
            if steps is not None and meta["steps"] > steps:
                self._refuse_length(f"has taken {meta['steps']} steps", f"steps={steps}")
            if meta["epoch"] > length:
                self._refuse_length(f"is {meta['epoch']} epochs long", f"a length of {length}")
            try:
                read = self._read(step, meta, state)
            except Exception as error:
                self._put_aside(step, error)
                continue
            if set(read[2]) != set(state[2]):
                there, here = (", ".join(sorted(names)) for names in (read[2], state[2]))
                self._refuse(
                    f"belongs to another run: its metrics are {there}, those of the loss here "
                    f"{here}. Give the loss of that run to go on with it, or another directory."
                )
            return read
        return None

    def _refuse_length(self, there: str, here: str) -> NoReturn:
        raise ValueError(
            f"{self._owner}: the run in {self._path} {there} already; got {here}. Give at least as "
            "many, or another directory."
        )

    def _read(self, step: int, meta: dict, state: Any) -> Any:
        member, _, empty = state
        names, rows = meta.get("history", list(empty)), meta["epoch"]
        if set(names) != set(empty):  # `restore` says so
            return member, None, dict.fromkeys(names)
        told = jax.tree.map(_plain, member)
        wanted = {f"member {i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(told))}
        for i, name in enumerate(names):
            wanted[f"history {i:05d}"] = empty[name][:rows]
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
            if leaf.size
        }
        args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(abstract))
        restored = self._manager.restore(step, args=args).state
        for name, written in meta.get("hashes", {}).items():
            if _describe_array(restored[name]) != written:
                raise ValueError(f"its array '{name}' is not the one that was written")
        found = {**wanted, **restored}
        leaves = [found[f"member {i:05d}"] for i in range(len(jax.tree.leaves(told)))]
        typed = [
            jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new
            for new, old in zip(leaves, jax.tree.leaves(member), strict=True)
        ]
        history = {
            name: empty[name].at[:rows].set(found[f"history {i:05d}"])
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
        self._write_hashes()
        member, _, history = state
        leaves = jax.tree.leaves(jax.tree.map(_plain, member))
        items = {f"member {i:05d}": leaf for i, leaf in enumerate(leaves)}
        items |= {f"history {i:05d}": history[n][:epoch] for i, n in enumerate(history)}
        # The loop donates its buffers to its next call, while these are still being written.
        items = {name: jnp.copy(leaf) for name, leaf in items.items() if leaf.size}
        content = {
            "run": self._run,
            "epoch": epoch,
            "cut": cut,
            "steps": int(np.max(to_host(member.train.step))),
            "history": list(history),
            "hashes": {name: _describe_array(leaf) for name, leaf in items.items()},
        }
        args = self._ocp.args
        self._manager.save(
            epoch,
            args=args.Composite(
                state=args.StandardSave(items),
                run=args.JsonSave({"content": content, "hash": _hash(content)}),
            ),
            force=True,
        )
        self._written.add(epoch)
        self._last = time.monotonic()

    def close(self) -> None:
        """Waits for the last checkpoint to be on disk."""
        try:
            self._write_hashes()
            self._manager.close()
        finally:
            self._release()

    def _write_hashes(self) -> None:
        """Writes the hashes of the files that the save before has left on disk."""
        self._manager.wait_until_finished()
        for step in self._manager.all_steps() if self._lock is not None else ():
            directory = self._path / str(step)
            if step in self._written and not has_hashes(directory):
                write_hashes(directory)

    def _meta(self, step: int) -> dict:
        args = self._ocp.args.Composite(run=self._ocp.args.JsonRestore())
        written = self._manager.restore(step, args=args).run
        if "run" in written and "content" not in written:
            return written  # of a version that wrote no hashes
        if _hash(written["content"]) != written["hash"]:
            raise ValueError(f"{self._path / str(step) / 'run'} is not what was written")
        return written["content"]


def _hash(content: dict) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


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
