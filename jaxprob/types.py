"""The types that every layer shares, and the axis letters that every docstring uses.

| letter | axis                            | letter | axis                      |
|--------|---------------------------------|--------|---------------------------|
| B      | batch (rows of data)            | K      | states or components      |
| S      | posterior draws, always leading | D      | event size (targets)      |
| M      | ensemble members, leading       | L      | latent size               |
| T      | time                            | V      | vocabulary                |

`log_prob` returns `[B]`: event axes are summed, the batch never is. A loss sums over the event,
takes the mean over the batch, and is measured in nats.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = [
    "AnyArray",
    "Array",
    "ArrayLike",
    "Batch",
    "Check",
    "Key",
    "Loss",
    "LossFn",
    "Metrics",
    "Numbers",
    "Params",
    "summary",
]

Array = jax.Array

AnyArray = jax.Array | np.ndarray
"""What a module accepts: inputs may come straight from NumPy."""

Numbers = ArrayLike | Sequence[Any]
"""What a parameter of a distribution may be given as: an array, a number, or lists of numbers."""

Key = jax.Array
"""A typed key from `jax.random.key`, shape `[]`."""

Params = Any
"""A pytree of arrays; for a Linen module, the value of its "params" collection."""

Batch = Mapping[str, Any]
"""Arrays with leading axis B: "x", "y" and, where they apply, "lengths", "mask", "weight"."""

Metrics = dict[str, Array]
"""Scalars that a loss reports beside its value, e.g. "nll" and "kl", in nats."""

LossFn = Callable[[Params, Batch, Key], tuple[Array, Metrics]]
"""The one loss signature: `loss_fn(params, batch, key) -> (loss, metrics)`."""

Check = Callable[[Params, Batch], Callable[[str, Batch], None] | None]
"""(params, example) -> None, or check(argument, batch), which raises for data that have no density.

`training` prepares it once, from the params of the start and some rows, and calls it with all data
before the first step; `argument` names them, as in 'fit: data'.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """A loss with what `training` must know of it; called as the function that it holds.

    Attributes:
      function: The loss of a step of training.
      evaluate: The loss of the model in its mode of prediction, for validation; by default the same
        as in training.
      uses_step: Whether it finds the number of steps taken in `batch["step"]`.
      average: How its values over parts of a data set make that over all of it: "weight", as a mean
        weighted by the sum of `batch["weight"]` in each part (a loss that is a weighted mean), or
        "rows", by the number of rows (a loss with a prior, see `batches.mean_over_rows`); None
        where nobody has said.
      check: What looks at the data before a run, such as targets outside of the support; or None.
    """

    function: LossFn
    evaluate: LossFn = None  # pyright: ignore[reportAssignmentType]
    uses_step: bool = False
    average: str | None = None
    check: Check | None = None

    def __post_init__(self):
        if self.evaluate is None:
            same = Loss(self.function, self.function, True) if self.uses_step else self.function
            object.__setattr__(self, "evaluate", same)

    @classmethod
    def in_modes(
        cls,
        in_mode: Callable[[bool], LossFn],
        uses_step: bool = False,
        average: str | None = None,
        *,
        check: Check | None = None,
    ) -> "Loss":
        """Returns the loss whose two forms are in_mode(train=True) and in_mode(train=False)."""
        evaluate = cls(in_mode(False), uses_step=uses_step, average=average)
        return cls(in_mode(True), evaluate, uses_step, average, check)

    def __call__(self, params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        """Returns the loss and its metrics."""
        return self.function(params, batch, key)


WIDTH = 100
"""Columns of a line of `summary`."""


def summary(name: str, **parts: Any) -> str:
    """Returns "Name(part=..., ...)": a number as it is, a pytree of arrays by its size.

    Args:
      name: Name of the result.
      **parts: By name; None is left out. What is longer than 100 columns shows less of the sizes,
        or else stands on a line for each part.
    """
    given = {part: value for part, value in parts.items() if value is not None}
    for template in ("<{} numbers in {} arrays, {}>", "<{} numbers>", "<{}>"):
        shown = [f"{part}={_shown(value, template)}" for part, value in given.items()]
        line = f"{name}({', '.join(shown)})"
        if len(line) <= WIDTH:
            return line
    shown = [f"{part}={_shown(value)}" for part, value in given.items()]
    return "\n".join([f"{name}(", *(f"    {_cut(part, WIDTH - 5)}," for part in shown), ")"])


def _shown(value: Any, template: str = "<{} numbers in {} arrays, {}>") -> str:
    if isinstance(value, str | int | float):
        return str(value)
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    leaves = jax.tree.leaves(value)
    if any(not hasattr(leaf, "dtype") for leaf in leaves):
        return f"<{len(leaves)} values>"
    known = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if known and len(leaves) == 1 and np.ndim(leaves[0]) == 0:
        number = leaves[0]
        return f"{number:.6g}" if jnp.issubdtype(number.dtype, jnp.number) else f"{number}"
    dtypes = sorted({str(leaf.dtype) for leaf in leaves})
    if len(leaves) == 1:
        return f"{dtypes[0]}{list(np.shape(leaves[0]))}"
    numbers = sum(np.size(leaf) for leaf in leaves)
    return template.format(numbers, len(leaves), "|".join(dtypes)).replace(", >", ">")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
