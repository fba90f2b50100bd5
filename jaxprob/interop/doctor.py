"""What this installation is, and which of its settings would make two frameworks disagree."""

import importlib.metadata
import platform
from typing import NamedTuple

import jax

__all__ = ["Fact", "facts"]

PACKAGES = ("jaxprob", "jax", "jaxlib", "flax", "optax", "distrax", "torch", "numpy", "safetensors")


class Fact(NamedTuple):
    """One line of the report.

    Attributes:
      name: What was looked at.
      value: What was found.
      advice: What to do, empty if nothing.
    """

    name: str
    value: str
    advice: str = ""


def facts() -> list[Fact]:
    """Returns versions, devices and precision flags of both frameworks."""
    found = [Fact("python", platform.python_version())]
    found += [_version(package) for package in PACKAGES]
    devices = ", ".join(str(device) for device in jax.devices())
    found.append(Fact("JAX devices", f"{jax.default_backend()}: {devices}"))
    wide = bool(jax.config.jax_enable_x64)
    advice = "" if wide else "arrays are cut to 32 bits; check_parity enables 64 for itself"
    found.append(Fact("jax_enable_x64", str(wide), advice))
    precision = jax.config.jax_default_matmul_precision
    reduced = jax.default_backend() != "cpu" and precision not in ("highest", "float32")
    advice = 'set "highest", or float32 matmuls use TF32 or bfloat16' if reduced else ""
    found.append(Fact("jax_default_matmul_precision", str(precision), advice))
    return found + _torch_facts()


def _version(package: str) -> Fact:
    try:
        return Fact(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        needed = "pip install 'jaxprob[torch]' for parity checks"
        return Fact(package, "not installed", needed if package == "torch" else "")


def _torch_facts() -> list[Fact]:
    try:
        import torch
    except ImportError:
        return []
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name(0) if cuda else "cpu"
    found = [Fact("torch device", name), Fact("torch threads", str(torch.get_num_threads()))]
    for label, flag in (
        ("torch TF32 in matmuls", torch.backends.cuda.matmul.allow_tf32),
        ("torch TF32 in convolutions", torch.backends.cudnn.allow_tf32),
    ):
        advice = "float32 has 10 bits of mantissa there; check_parity turns it off" if flag else ""
        found.append(Fact(label, str(flag), advice if cuda else ""))
    dtype = str(torch.get_default_dtype()).removeprefix("torch.")
    found.append(Fact("torch default dtype", dtype))
    return found
