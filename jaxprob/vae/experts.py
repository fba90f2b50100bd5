"""A mixture of experts: a softmax gate over distributions that each see the input.

    log p(y | x) = logsumexp_k [log softmax_k(g(x)) + log p_k(y | x)]

The expert is a discrete latent that is summed out exactly, so the model is trained by plain
`objectives.negative_log_likelihood`.

Twin: `torch_ref/vae/experts.py`. Source: Jacobs et al., "Adaptive mixtures of local experts"
(1991), eq. 1.3; Bishop, "Pattern Recognition and Machine Learning", section 14.5.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.distributions import Categorical, Distribution, MixtureSameFamily
from jaxprob.nn.apply import mode_options
from jaxprob.objectives.likelihood import log_likelihood
from jaxprob.types import AnyArray, Array

__all__ = ["MixtureOfExperts"]


class MixtureOfExperts(nn.Module):
    """Experts of one family, weighed for each input by a gate.

    Attributes:
      experts: Modules x -> distribution with batch shape `[B]`, e.g. each a
        `nn.Sequential([MLP((16,)), NormalHead()])`; all with heads of one kind.
      gate: Module x -> features `[B, H]` of the gate; None for a gate linear in x.
    """

    experts: Sequence[nn.Module]
    gate: nn.Module | None = None

    @nn.compact
    def __call__(self, x: AnyArray, train: bool = False) -> MixtureSameFamily:
        """Maps inputs to a mixture over targets, one component for each expert."""
        if not self.experts:
            raise ValueError("MixtureOfExperts: experts is empty; give at least one module.")
        h = x if self.gate is None else self.gate(x, **mode_options(self.gate, train))
        logits = nn.Dense(len(self.experts), name="gate_logits")(h)
        components = [expert(x, **mode_options(expert, train)) for expert in self.experts]
        return MixtureSameFamily(Categorical(logits=logits), _stack(components))

    def responsibilities(self, x: AnyArray, y: AnyArray) -> Array:
        """Returns p(expert | x, y), `[B, K]`."""
        mixture = self(x)
        components = mixture.components_distribution
        terms = log_likelihood(_transposed(components), jnp.asarray(y), num_leading=1)
        return jax.nn.softmax(mixture.mixture_distribution.logits + terms.T, axis=-1)


def _stack(distributions: list[Distribution]) -> Distribution:
    """One distribution with the K given ones along a new last batch axis."""
    first = distributions[0]
    kinds = {(jax.tree.structure(d), d.batch_shape, d.event_shape) for d in distributions}
    if len(kinds) > 1:
        listed = ", ".join(f"{d.name} over {d.event_shape}" for d in distributions)
        raise ValueError(
            f"MixtureOfExperts: the experts must return distributions of one kind; got {listed}. "
            "Give all experts the same head."
        )
    axis = len(first.batch_shape)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=axis), *distributions)


def _transposed(components: Distribution) -> Distribution:
    """Batch shape `[B, K]` -> `[K, B]`."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), components)
