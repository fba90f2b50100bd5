"""What a loss has to say of the data before the first step (see `Check` in `jaxprob.types`)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxprob.training.plan import Member
from jaxprob.training.settings import Settings
from jaxprob.types import Batch, Params

__all__ = ["DataCheck"]


class DataCheck:
    """The check of a loss, prepared from the first rows that it sees.

    Args:
      settings: Settings of the run.
      params: Params of the start, `[M, ...]` for an ensemble, whose first member speaks for all.
      create: Returns the members before the first step.
    """

    def __init__(self, settings: Settings, params: Params, create: Callable[[], Member]):
        self._settings, self._params, self._create = settings, params, create
        self._prepared = False
        self._check: Callable[[str, Batch], None] | None = None

    def __call__(self, argument: str, data: Mapping[str, Any]) -> None:
        """Raises a `ValueError` for rows that no params can explain.

        Args:
          argument: Name of the argument, for messages.
          data: Arrays with leading axis N, entries of each member's own with M before it.
        """
        if self._prepared and self._check is None:
            return
        if any(isinstance(v, jax.Array) and not v.is_fully_addressable for v in data.values()):
            return  # rows of other processes
        for rows in self._rows(data):
            if not self._prepared:
                self._prepared, self._check = True, self._prepare(rows)
            if self._check is not None:
                self._check(f"{self._settings.owner}: {argument}", rows)

    def _prepare(self, rows: Batch) -> Callable[[str, Batch], None] | None:
        settings, params, loss_fn = self._settings, self._params, self._settings.loss_fn
        if settings.members is not None:
            params = jax.tree.map(lambda leaf: leaf[0], params)
        if settings.hyperparams:
            own = self._create().settings
            loss_fn = loss_fn(**{name: value[0] for name, value in own.items()}) if own else loss_fn
        check = getattr(loss_fn, "check", None)
        return None if check is None else check(params, rows)

    def _rows(self, data: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        own = [name for name in self._settings.per_member if name in data]
        arrays = {name: np.asarray(value) for name, value in data.items()}
        for member in range(self._settings.members or 1) if own else (0,):
            yield {n: value[member] if n in own else value for n, value in arrays.items()}
