"""Pairs of models that are broken on purpose, to see whether `check_parity` finds out.

`layers`, `sequences` and `training` hold each classic trap once, between blocks that agree
(`TRAPS`); `models` holds whole models as people write them, by another hand.
"""

from parity_tests.traps import layers, sequences, training
from parity_tests.traps.pair import TRAPS, Pair, build

__all__ = ["TRAPS", "Pair", "build", "layers", "sequences", "training"]
