"""Command line: `python -m jaxprob parity FLAX TORCH --batch FILE`, `python -m jaxprob doctor`."""

import argparse
import importlib
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: Words after `python -m jaxprob`; default: those of the process.

    Returns:
      The exit code: 0 for agreement, 1 for a disagreement, 2 for arguments that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m jaxprob", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_parity(commands)
    doctor = commands.add_parser("doctor", help="versions, devices and precision flags")
    doctor.set_defaults(run=_doctor)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"jaxprob {options.command}: {error}", file=sys.stderr)
        return 2


def _add_parity(commands: Any) -> None:
    parity = commands.add_parser("parity", help="compare a Flax model with a PyTorch module")
    parity.add_argument("flax", help="package.module:factory of the Flax model, without arguments")
    parity.add_argument("torch", help="package.module:factory of the PyTorch module")
    parity.add_argument("--batch", required=True, type=pathlib.Path, help=".npz file of arrays")
    parity.add_argument("--inputs", nargs="+", default=["x"], help="arrays that the models take")
    parity.add_argument("--channels-first", nargs="+", default=[], help="inputs [B, C, ...] there")
    parity.add_argument("--jax-loss", help="package.module:function of (output, batch)")
    parity.add_argument("--torch-loss", help="package.module:function of (output, batch)")
    parity.add_argument("--rename", nargs="+", default=[], metavar="FLAX=TORCH")
    parity.add_argument("--steps", type=int, default=0, help="optimiser steps to compare")
    parity.add_argument("--optimizer", default="adam", help="a name of jaxprob.optim")
    parity.add_argument("--lr", type=float, default=1e-3)
    parity.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parity.add_argument("--tolerance", type=float, help="largest error allowed")
    parity.add_argument("--report", type=pathlib.Path, help=".html, .md or .json file to write")
    parity.set_defaults(run=_parity)


def _parity(options: argparse.Namespace) -> int:
    import numpy as np

    from jaxprob import interop

    with np.load(options.batch) as file:
        batch = {name: file[name] for name in file.files}
    pairs = [entry.partition("=") for entry in options.rename]
    report = interop.check_parity(
        _resolve(options.flax)(),
        _resolve(options.torch)(),
        batch,
        jax_loss=_resolve(options.jax_loss) if options.jax_loss else None,
        torch_loss=_resolve(options.torch_loss) if options.torch_loss else None,
        inputs=tuple(options.inputs),
        channels_first=tuple(options.channels_first),
        optimizer=_optimizer(options) if options.steps else None,
        steps=options.steps,
        rename={flax: torch for flax, _, torch in pairs},
        dtype=options.dtype,
    )
    print(report)
    if options.report:
        report.save(options.report)
        print(f"written: {options.report}")
    default = {"float64": 1e-10, "float32": 1e-5}[options.dtype]
    bound = default if options.tolerance is None else options.tolerance
    trajectory = bound if options.steps else None
    try:
        report.require(value=bound, grad=bound, trajectory=trajectory)
    except interop.ParityError as error:
        print(f"NOT equal: {error}")
        return 1
    print(f"Equal within {bound:g}.")
    return 0


def _optimizer(options: argparse.Namespace) -> tuple[Any, Callable]:
    import torch

    from jaxprob import optim

    classes = {name.lower(): getattr(torch.optim, name) for name in dir(torch.optim)}
    if options.optimizer not in optim.__all__ or options.optimizer not in classes:
        raise ValueError(
            f"--optimizer {options.optimizer!r} is not in jaxprob.optim; try adam, sgd, rmsprop."
        )
    return (
        getattr(optim, options.optimizer)(options.lr),
        lambda parameters: classes[options.optimizer](parameters, lr=options.lr),
    )


def _resolve(spec: str) -> Callable:
    module, separator, name = spec.partition(":")
    if not separator or not module or not name:
        raise ValueError(f"{spec!r} must have the form package.module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as for `python -m`
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{spec!r} cannot be imported: {error}.") from error
    if not callable(function):
        raise ValueError(f"{spec!r} is a {type(function).__name__}, not a function.")
    return function


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from jaxprob.interop.doctor import facts

    table = Table("what", "value", "advice")
    for fact in facts():
        table.add_row(*fact)
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
