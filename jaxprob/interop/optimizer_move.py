"""The two sides of a moved optimiser state: paths of params and names of tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxprob.interop.correspondence import Link, Tree, correspond
from jaxprob.interop.modules import describe
from jaxprob.interop.optimizer_groups import Groups
from jaxprob.interop.optimizer_kinds import kept_by_torch, refusal
from jaxprob.interop.optimizer_tree import Entry, Keys, Leaves, WrongAlgorithm, entries
from jaxprob.interop.transfer import as_tensor, convert_to_torch
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["Move"]


class Move:
    """The two sides of a transfer: names, paths, and what the torch optimiser keeps."""

    def __init__(
        self,
        action: str,
        params: Params,
        module: "torch.nn.Module",
        optimizer: "torch.optim.Optimizer",
        rename: Mapping[str, str] | None,
        transpose_kernel: bool | Mapping[str, bool] | None,
    ):
        self.action, self.params, self.module, self.optimizer = action, params, module, optimizer
        self.kind = kind_of(action, optimizer)
        described = describe(module)
        trainable = {name: spec for name, spec in described.tensors.items() if spec.trainable}
        self.tree = Tree.of({"params": params})
        self.links = correspond(
            action, self.tree, described._replace(tensors=trainable), rename, transpose_kernel
        )
        folded = [name for link in self.links if link.rule.gradient_to_flax for name in link.torch]
        if folded:
            raise ValueError(
                f"{action}: {', '.join(folded)} are folded into one bias in Flax; PyTorch keeps a "
                "moment for each, so the states do not correspond. Use the recurrent layers of "
                "jaxprob.nn, which keep both."
            )
        self.tensors = module.state_dict(keep_vars=True)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        linked = [name for link in self.links for name in link.torch]
        self.names = {name: self.tensors[name] for name in linked}
        self.held = {name for name in linked if id(self.tensors[name]) in held}
        # in the order of jax.tree.leaves, which optax.flatten follows
        flat, _ = jax.tree_util.tree_flatten_with_path(params)
        self.leaves: Leaves = {tuple(key.key for key in path): leaf for path, leaf in flat}
        self.owner = {
            name: tuple(path[1:] for path in link.flax)
            for link in self.links
            for name in link.torch
        }

    def entries(self, state: Any) -> list[Entry]:
        """Lists the arrays of an optax state, which must be of the torch optimiser's algorithm."""
        try:
            return entries(self.action, state, self.kind)
        except WrongAlgorithm as error:
            text, fields = error.args
            raise ValueError(
                f"{self.action}: torch.optim.{self.kind} has no {fields[0]!r} for "
                f"{', '.join(sorted(self.names))}: {text}"
            ) from None

    def cover(self, moments: list[Entry], leaves: Mapping[Keys, Leaves]) -> Any:
        """The parameters below a mask: those that have a moment there; all at the root."""

        def of(scope: Keys) -> set:
            if not scope:
                return set(self.leaves)
            below = [e for e in moments if e.scope[: len(scope)] == scope]
            return {path for entry in below for path in leaves[entry.at]}

        return of

    def links_of(self, paths: Any) -> list[Link]:
        """The links of some leaves; a mask must not cut through one."""
        paths = set(paths)
        chosen = []
        for link in self.links:
            inside = [path[1:] in paths for path in link.flax]
            if any(inside) and not all(inside):
                names = ", ".join(link.torch)
                raise ValueError(
                    f"{self.action}: a mask holds some of the leaves of {names} but not all; one "
                    "tensor of torch has one state. Label them alike."
                )
            if all(inside):
                chosen.append(link)
        return chosen

    def tensors_of(self, paths: Any) -> list[str]:
        """Names of the tensors that some leaves are."""
        return [name for link in self.links_of(paths) for name in link.torch]

    def path_of(self, name: str) -> tuple:
        """The first leaf of a tensor."""
        return self.owner[name][0]

    def to_torch(self, leaves: Leaves) -> dict[str, np.ndarray]:
        """Arrays like the params, by name and in the layout of torch."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.names.items()}
        tree = Tree({("params", *path): leaf for path, leaf in leaves.items()}, True)
        return convert_to_torch(self.links_of(leaves), tree, shapes)

    def require(self, entry: Entry, groups: Groups, paths: Any) -> None:
        """Refuses a moment that torch's algorithm does not have with these options."""
        for name in self.tensors_of(paths):
            if name in self.held:
                reason = refusal(entry.state, self.kind, groups.of(name))
                if reason:
                    raise ValueError(f"{self.action}: {reason}.")

    def require_held(self, state: Mapping[str, Any]) -> None:
        """Refuses state of parameters that the optimiser does not hold."""
        absent = sorted(name for name in state if name not in self.held)
        if absent:
            raise ValueError(
                f"{self.action}: the optimiser does not hold {', '.join(absent)}; build it from "
                "module.parameters()."
            )

    def require_whole(self, state: Mapping[str, Mapping], groups: Groups) -> None:
        """Every parameter that torch trains gets all that torch keeps of it, and no more."""
        problems = []
        for name in sorted(self.held):
            kept, found = kept_by_torch(self.kind, groups.of(name)), set(state.get(name, ()))
            if not found and not self.names[name].requires_grad:
                continue
            problems += [f"{name} has no {field!r}" for field in sorted((kept or set()) - found)]
            problems += [
                f"{name} has {field!r}, which its group switches off"
                for field in sorted(found - (kept or set()))
            ]
        if problems:
            raise ValueError(
                f"{self.action}: the optax state is not what torch.optim.{self.kind} keeps with "
                f"these options: {'; '.join(problems)}. Use the same algorithm and options on both "
                "sides; what optax masks or freezes belongs in no group."
            )

    def as_torch(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter's entry as torch keeps it: tensors, on the right devices."""
        import torch

        tensor, group = self.tensors[name], Groups.find(self.optimizer, self.tensors[name])
        on_device = group.get("capturable") or group.get("fused")
        place = tensor.device if on_device else torch.device("cpu")
        written = {}
        for field, value in entry.items():
            if field == "step":
                written[field] = torch.tensor(value, device=place)
            elif field == "mu_product":
                written[field] = torch.tensor(value, dtype=torch.float64, device=place)
            else:
                written[field] = as_tensor(np.array(value, order="C")).to(tensor.device)
        return written


def kind_of(action: str, optimizer: Any) -> str:
    import torch

    name = type(optimizer).__name__
    if getattr(torch.optim, name, None) is not type(optimizer):
        raise ValueError(
            f"{action}: optimizer must be one of torch.optim, whose state is known; got {name}."
        )
    if kept_by_torch(name, {}) is None:
        raise ValueError(
            f"{action}: torch.optim.{name} has no counterpart in optax or jaxprob.optim that takes "
            "the same steps; start the other side afresh from the params."
        )
    return name
