"""The rows of the parity proofs, one file a family.

A new model is one row here: it then gets values, gradients and training runs in both dtypes.
"""

from parity_tests.cases import bayes, distributions, metrics, nn, supervised

MODELS = [*bayes.MODELS, *supervised.MODELS]
FUNCTIONS = [*distributions.FUNCTIONS, *metrics.FUNCTIONS, *nn.FUNCTIONS]
