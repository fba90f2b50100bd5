"""Training: one compiled program for each fit, of one model or of a whole ensemble."""

from jaxprob.training.buckets import LengthBuckets
from jaxprob.training.diagnose import NonFiniteError
from jaxprob.training.ensemble import fit_ensemble
from jaxprob.training.fit import Fitted, fit
from jaxprob.training.step import TrainState, make_step
from jaxprob.training.stream import StreamEndedError

__all__ = [
    "Fitted",
    "LengthBuckets",
    "NonFiniteError",
    "StreamEndedError",
    "TrainState",
    "fit",
    "fit_ensemble",
    "make_step",
]
