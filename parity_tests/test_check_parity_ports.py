"""`check_parity` on ports by another hand: equal ones pass, and each mistake is named."""

import importlib
import re

import pytest

from jaxprob import interop

# pair, mistake -> (layers that a user would accept, pattern of the suspect)
ATTENTION = r"blocks\.0\.attn\.qkv"
QUICK = {
    ("gpt", "scale missing"): (ATTENTION, "attention scale"),
    ("wavenet", "same padding"): (r"blocks\.0\.conv", "padding"),
    ("gcn", "mean readout"): ("norm", "sum or mean"),
    ("tagger", "loss counts padding"): ("", "reduction"),
}
SLOW = {
    ("gpt", "full width scale"): (ATTENTION, "attention scale"),
    ("gpt", "mask missing"): (ATTENTION, "mask missing"),
    ("gpt", "mask shifted"): (ATTENTION, "shifted mask"),
    ("gpt", "softmax axis"): (ATTENTION, "softmax axis"),
    ("gpt", "heads not merged"): (ATTENTION, "merge of the heads"),
    ("gpt", "qk swapped"): (ATTENTION, "projection order"),
    ("gpt", "embedding scale"): ("wpe|wte", "scale of a sum"),
    ("gpt", "gelu erf"): (r"blocks\.0\.fc", "gelu form"),
    ("gpt", "targets unshifted"): ("", "shifted targets"),
    ("gpt", "loss sum"): ("", "reduction"),
    ("wavenet", "dilation missing"): (r"blocks\.1\.conv", "dilation"),
    ("wavenet", "replicate padding"): (r"blocks\.0\.conv", "padding mode"),
    ("wavenet", "hard sigmoid"): (r"blocks\.0\.conv", "activation"),
    ("wavenet", "mean of skips"): (r"blocks\.2", "scale"),
    ("wavenet", "relu on the skips missing"): (r"blocks\.2", "activation"),
    ("gcn", "relu after the sum"): ("conv0", "order of operations"),
    ("gcn", "max readout"): ("norm", "pooling"),
    ("tagger", "concat order"): ("lstm", "concatenation order"),
    ("tagger", "tanh on the states"): ("lstm", "activation"),
    ("tagger", "not packed"): ("lstm", "sequence lengths"),
    ("tagger", "lengths off by one"): ("lstm", "sequence lengths"),
    ("seq2seq", "decoder from zeros"): ("decoder", "initial state"),
    ("seq2seq", "decoder sees zeros"): ("tgt_embed", "zeros"),
    ("seq2seq", "scaled scores"): ("key", "scale"),
    ("cvae", "exp of logvar"): (".*", "variance against standard deviation"),
    ("train", "adam eps"): ("", "eps"),
    ("train", "maximise"): ("", "maximize"),
    ("train", "adam became sgd"): ("", "another algorithm"),
    ("train", "momentum"): ("", "momentum"),
    ("train", "clip at another norm"): ("", "clipping"),
    ("train", "decay on biases"): ("", "weight decay"),
    ("train", "adamw eps"): ("", "eps"),
    ("train", "warm-up from zero"): ("", "schedule"),
    ("train", "warm-up off by one"): ("", "schedule off by one step"),
    ("train", "no schedule"): ("", "schedule missing in PyTorch"),
}


def built(pair, mistake):
    made = importlib.import_module(f"parity_tests.traps.ports.{pair}").build(mistake, 0)
    options = made.pop("options")
    return interop.check_parity(**made, **options)


@pytest.mark.parametrize(
    ("pair", "mistake"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_the_mistake_is_named_at_its_layer(pair, mistake):
    layers, suspect = {**QUICK, **SLOW}[pair, mistake]
    (found,) = built(pair, mistake).findings
    assert re.fullmatch(suspect, found.suspect), str(found)
    assert re.fullmatch(layers, found.layer), str(found)


EQUAL = {
    "gpt": ("", "sdpa", "additive mask", "persistent buffer"),
    "cvae": ("", "other writing"),
    "wavenet": ("", "pad both, chop"),
    "gcn": ("diag matrices",),
    "tagger": ("", "sorted by hand", "row by row"),
    "seq2seq": ("step by step",),
    "train": ("", "clip by hand", "sgd foreach", "L2 in sgd"),
}
FIRST = {("tagger", "row by row"), ("cvae", "other writing"), ("gpt", "persistent buffer")}


@pytest.mark.parametrize(
    ("pair", "writing"),
    [
        pytest.param(pair, writing, marks=[] if (pair, writing) in FIRST else [pytest.mark.slow])
        for pair, writings in EQUAL.items()
        for writing in writings
    ],
)
def test_what_is_written_otherwise_and_equal_raises_no_alarm(pair, writing):
    report = built(pair, writing)
    assert report.findings == (), str(report)
