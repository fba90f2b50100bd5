"""Parameter groups of a torch optimiser: hyperparameters read, and written all at once."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jaxprob.interop.optimizer_kinds import HYPERPARAMETERS, NEUTRAL, WITHOUT_EFFECT

if TYPE_CHECKING:
    import torch

__all__ = ["Groups"]


class Groups:
    """Copies of the hyperparameters of each group, to be changed and then written.

    Args:
      action: Name of the caller, for messages.
      optimizer: The torch optimiser.
      names: Name of a parameter -> the parameter.
    """

    def __init__(
        self, action: str, optimizer: "torch.optim.Optimizer", names: Mapping[str, "torch.Tensor"]
    ):
        self.action, self.optimizer = action, optimizer
        self.hyper = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        places = {id(p): i for i, g in enumerate(optimizer.param_groups) for p in g["params"]}
        self.index = {n: places[id(t)] for n, t in names.items() if id(t) in places}
        self.injected: dict[tuple[int, str], float] = {}

    @staticmethod
    def find(optimizer: "torch.optim.Optimizer", tensor: "torch.Tensor") -> dict[str, Any]:
        """The group that holds a parameter."""
        return next(
            group for group in optimizer.param_groups if any(p is tensor for p in group["params"])
        )

    def of(self, name: str) -> dict[str, Any]:
        """Hyperparameters of a parameter; those of the first group where none holds it."""
        return self.hyper[self.index.get(name, 0)]

    def rate(self, name: str) -> float:
        """The learning rate of a parameter, which divides a moment.

        Raises:
          ValueError: It is 0.
        """
        rate = float(self.of(name)["lr"])
        if rate == 0.0:
            raise ValueError(
                f"{self.action}: lr of {name} is 0, and the optax state holds lr times torch's "
                "buffer; give the optimiser its learning rate first."
            )
        return rate

    def inject(self, name: str, value: Any, tensors: Iterable[str]) -> None:
        """Sets an injected hyperparameter for the groups of some parameters.

        Raises:
          ValueError: A hyperparameter that torch lacks, or two values for one group.
        """
        number = float(value)
        place = self._place(name, number)
        if place is None:
            return
        for tensor in tensors:
            if tensor not in self.index:
                continue
            group = self.index[tensor]
            known = self.injected.setdefault((group, name), number)
            if known != number:
                raise ValueError(
                    f"{self.action}: group {group} of the optimiser holds parameters with {name} "
                    f"{known:g} and {number:g}; give each a group of its own."
                )
            _put(self.hyper[group], place, number)

    def read(self, name: str, tensors: Iterable[str]) -> float:
        """The value of a hyperparameter that some parameters share.

        Raises:
          ValueError: A hyperparameter that torch lacks, or several values.
        """
        place = self._place(name, None)
        if place is None:
            return NEUTRAL.get(name, 0.0)
        held = sorted({self.index[tensor] for tensor in tensors if tensor in self.index})
        found = {float(_get(self.hyper[group], place)) for group in held}
        if len(found) != 1:
            listed = ", ".join(f"{value:g}" for value in sorted(found)) or "no group"
            raise ValueError(
                f"{self.action}: the optax state has one {name} where torch's groups have "
                f"{listed}; use optax.partition, one label a group."
            )
        return found.pop()

    def write(self) -> None:
        """Writes the injected hyperparameters into the optimiser."""
        for group, hyper in zip(self.optimizer.param_groups, self.hyper, strict=True):
            for key, value in hyper.items():
                if group[key] is value:
                    continue
                if hasattr(group[key], "fill_"):
                    group[key].fill_(value)
                else:
                    group[key] = value

    def _place(self, name: str, number: float | None) -> Any:
        if name in WITHOUT_EFFECT:
            return None
        if name in NEUTRAL:
            if number not in (None, NEUTRAL[name]):
                raise ValueError(
                    f"{self.action}: {name} is {number:g}; torch has none. Set it to "
                    f"{NEUTRAL[name]:g}."
                )
            return None
        place = HYPERPARAMETERS.get(name)
        key = place[0] if isinstance(place, tuple) else place
        if key is None or any(key not in hyper for hyper in self.hyper):
            kind = type(self.optimizer).__name__
            raise ValueError(
                f"{self.action}: the optax state holds the injected hyperparameter {name!r}, which "
                f"torch.optim.{kind} does not have. Leave it out of inject_hyperparams "
                "(static_args)."
            )
        return place


def _get(hyper: Mapping[str, Any], place: Any) -> Any:
    return hyper[place[0]][place[1]] if isinstance(place, tuple) else hyper[place]


def _put(hyper: dict[str, Any], place: Any, number: float) -> None:
    if isinstance(place, tuple):
        key, at = place
        hyper[key] = tuple(number if i == at else v for i, v in enumerate(hyper[key]))
    else:
        hyper[place] = number
