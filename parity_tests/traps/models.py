"""Whole models as people write them, each with one porting mistake: a second hand's catalogue.

`TRAPS` put one odd layer between blocks that agree. Here the mistake sits where it does in real
ports: in a functional call, in a `setup`, inside a block, in the loss, in the optimiser. What
has to be named was written down before the first run. Every model also has a version without the
mistake (`mistake=""`), which has to agree, so that the mistake is the only difference.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from parity_tests.traps.models_images import CONVNET, RESNET, TRAINING, UNET
from parity_tests.traps.models_text import BIRNN, CELL, GPT, RNN, STOCK
from parity_tests.traps.models_vectors import BYOL, GAUSSIAN, MLP, TAGGER, TRAINED
from parity_tests.traps.pair import Pair

__all__ = ["CASES", "Case", "build_case"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
      family: Model with and without it.
      mistake: Which.
      layers: Any of these is a right answer for the layer; "" is the whole model.
      suspect: Pattern of what a user would accept as the cause.
      known: Whether docs/porting.md lists it; otherwise "unknown" is an honest answer.
    """

    family: Callable[[str, np.random.Generator], Pair]
    mistake: str
    layers: tuple[str, ...]
    suspect: str
    known: bool = False


ATTENTION = tuple(f"blocks.0.attn{part}" for part in ("", ".q", ".k", ".v", ".out"))

CASES = (
    # Images
    Case(RESNET, "same padding", ("conv1",), "padding", known=True),
    Case(RESNET, "pool without strides", ("bn1", "layer1.conv1"), "pool|stride"),
    Case(RESNET, "no skip", ("layer1.bn2", "layer1"), "residual|skip"),
    Case(RESNET, "norm epsilon", ("bn1",), "epsilon", known=True),
    Case(RESNET, "relu before norm", ("layer1.conv1", "layer1.bn1"), "order|activation|relu"),
    Case(TRAINING, "momentum of the other side", ("bn1",), "momentum", known=True),
    Case(TRAINING, "stock momentum", ("bn1",), "momentum|running variance", known=True),
    Case(TRAINING, "biased variance", ("bn1",), "running variance", known=True),
    Case(
        TRAINING, "running average in training", ("bn1",), "batch statistics|mode|train|running a"
    ),
    Case(CONVNET, "flatten", ("conv3",), "flatten", known=True),
    Case(CONVNET, "leaky relu", ("conv1",), "leaky", known=True),
    Case(CONVNET, "groups", ("norm",), "group"),
    Case(CONVNET, "dilation", ("conv2",), "dilation"),
    Case(CONVNET, "average pool", ("conv3",), "average|padding", known=True),
    Case(CONVNET, "mean for max", ("conv3",), "pool"),
    Case(UNET, "transposed padding", ("up",), "padding", known=True),
    Case(UNET, "concatenation", ("up", "dec"), "concat"),
    Case(UNET, "align corners", ("mid", "refine"), "align|interpol|resiz|upsampl"),
    # Text
    Case(RNN, "forget bias", ("lstm",), "forget"),
    Case(RNN, "cell state", ("lstm",), "cell|carry"),
    Case(RNN, "first step", ("lstm",), "revers|order|step|time"),
    Case(RNN, "mean over padding", ("lstm", "drop", "head"), "mask|mean|padding"),
    Case(RNN, "padding index", ("embed",), "padding"),
    Case(BIRNN, "kept reversed", ("gru",), "revers|order|direction"),
    Case(BIRNN, "reset before", ("gru",), "reset"),
    Case(BIRNN, "directions swapped", ("gru",), "direction|concat|order|revers"),
    Case(CELL, "gate order", ("cell.h2h", "cell.x2h", "cell"), "gate"),
    Case(GPT, "gelu", ("blocks.0.fc1",), "gelu", known=True),
    Case(GPT, "norm epsilon", ("blocks.0.norm1",), "epsilon", known=True),
    Case(GPT, "scale of the width", ATTENTION, "scal|factor"),
    Case(GPT, "softmax axis", ATTENTION, "softmax"),
    Case(GPT, "no causal mask", ATTENTION, "mask|causal"),
    Case(GPT, "heads not moved back", ATTENTION, "head|order|transpos|flatten"),
    Case(GPT, "norm after", ("blocks.0.norm1", *ATTENTION), "norm|order|residual"),
    Case(GPT, "embedding scale", ("embed", "blocks.0.norm1"), "scal|factor"),
    Case(GPT, "positions", ("embed", "blocks.0.norm1"), "position|order|concat"),
    Case(GPT, "tied head scale", ("norm",), "scal|factor"),
    Case(GPT, "one block too few", ("blocks.1.fc2", "blocks.1", "norm"), "times|call|repeat"),
    Case(STOCK, "mask sense", ("attn",), "mask", known=True),
    Case(STOCK, "no mask", ("attn",), "mask"),
    # Vectors, losses, optimisers
    Case(MLP, "sample deviation", ("fc1",), "unbiased|ddof|n - 1"),
    Case(MLP, "silu", ("fc2",), "activation", known=True),
    Case(MLP, "quick gelu", ("fc2",), "gelu|activation"),
    Case(MLP, "softmax of log", ("out",), "softmax"),
    Case(MLP, "mixer transposed", ("mixer",), "transpos"),
    Case(MLP, "params as given", ("square",), "transpos", known=True),
    Case(GAUSSIAN, "variance", ("fc_logvar",), "standard deviation", known=True),
    Case(GAUSSIAN, "no offset", ("fc_logvar",), "offset|constant|epsilon"),
    Case(GAUSSIAN, "sum and mean", ("",), "reduction", known=True),
    Case(GAUSSIAN, "mean of kl", ("",), "reduction|kl|factor"),
    Case(TAGGER, "double sigmoid", ("",), "sigmoid|logit"),
    Case(TAGGER, "padding counted", ("",), "mask|ignore|padding"),
    Case(BYOL, "no stop gradient", ("target.0", "target.2", "target"), "gradient", known=True),
    Case(TRAINED, "dampening", ("",), "dampening"),
    Case(TRAINED, "adam epsilon", ("",), "eps"),
    Case(TRAINED, "adamw default", ("",), "weight decay", known=True),
    Case(TRAINED, "biases not decayed", ("",), "bias|mask"),
    Case(TRAINED, "l2", ("",), "decoupled|L2", known=True),
    Case(TRAINED, "nesterov", ("",), "nesterov"),
    Case(TRAINED, "rmsprop", ("",), "root", known=True),
    Case(TRAINED, "second beta", ("",), "beta|b2"),
    Case(TRAINED, "learning rate", ("",), "learning rate"),
    Case(TRAINED, "clipping", ("",), "clip"),
)


def build_case(case: Case, seed: int, mistake: bool = True) -> Pair:
    """Returns the pair with random weights; without its mistake on demand."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    pair = case.family(case.mistake if mistake else "", rng)
    with torch.no_grad():
        for name, tensor in pair.torch_module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.tensor(rng.normal(size=tensor.shape)).to(tensor)
                tensor.add_(0.3 * (noise.abs() if "running_var" in name else noise))
    if "params" in pair.options:
        pair.options["params"] = pair.options["params"]()
    return pair
