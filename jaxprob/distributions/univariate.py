"""What families over numbers share: checks, broadcasting, edges of the support, tails, quantiles.

A family states its formulas, for arrays that are aligned and inside the support:

    _log_density(x, *parameters)       log p(x)
    _tails(x, *parameters)             one of the two tail probabilities (see `tails.py`)
    _slopes(x, *parameters)            partial derivatives of log p, where autodiff's are slow
    _quantile(lower, upper, ...)       the inverse, if it has one in closed form
    _sample_n(key, n), mean(), ...

and gets `log_prob`, `cdf`, `log_cdf`, `survival_function`, `quantile`, `interval`, ... from this
class. Outside of the support `log_prob` is -inf, its gradient 0; NaN stays NaN.

Twin: `torch_ref/distributions/univariate.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.gradients import with_slopes
from jaxprob.distributions.quantiles import monotone_quantile, smallest_integer
from jaxprob.distributions.special import log1p
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.validation import align, as_parameters, check_event
from jaxprob.types import Array, Numbers

__all__ = ["Univariate", "draw_uniform", "parameter", "probability_logs"]


def parameter(name: str, doc: str) -> Any:
    """Returns a property that reads the stored array of one parameter."""
    return property(lambda self: getattr(self, f"_{name}"), doc=doc)


class Univariate(Distribution):
    """A family of distributions over numbers; see the module's docstring for what it must state."""

    _inside: float = 0.0  # a point of the support, which stands in for values outside
    _ends: tuple[float, float] = (-float("inf"), float("inf"))  # of the support

    def _set(self, **parameters: Numbers) -> None:
        """Checks, broadcasts and stores the parameters."""
        arrays = as_parameters(type(self).__name__, self.arg_constraints, **parameters)
        for name, array in zip(parameters, arrays, strict=True):
            setattr(self, f"_{name}", array)

    def _parameters(self) -> tuple[Array, ...]:
        """The arrays that the formulas take, all of the batch shape."""
        return tuple(getattr(self, f"_{name}") for name in self.arg_constraints)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._parameters()[0].shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `()`."""
        return ()

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    def _float_dtype(self) -> Any:
        return self._parameters()[0].dtype

    def _aligned(self, *values: Array) -> list[Array]:
        """Values and then parameters, all with the same number of axes, values as floats."""
        parameters = self._parameters()
        floats = jnp.result_type(
            *(v.dtype for v in values if jnp.issubdtype(v.dtype, jnp.floating)), parameters[0].dtype
        )
        arrays = [v.astype(floats) for v in values] + list(parameters)
        ndim = max(a.ndim for a in arrays)
        shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
        lifted = [align(a, ndim) for a in arrays]
        return [jnp.broadcast_to(a, shape) for a in lifted[: len(values)]] + lifted[len(values) :]

    # ---- formulas of the family -------------------------------------------------------------

    def _log_density(self, x: Array, *parameters: Array) -> Array:
        raise NotImplementedError(f"{self.name} has no density.")

    _slopes: Callable[..., tuple[Array, ...]] | None = None

    def _density_at(self, x: Array, *parameters: Array) -> Array:
        """The formula together with its slopes."""
        if self._slopes is None or not _states_both(type(self)):
            return self._log_density(x, *parameters)
        return with_slopes(self._log_density, self._slopes)(x, *parameters)

    def _tails(self, x: Array, *parameters: Array) -> Tails:
        raise NotImplementedError(f"{self.name} has no cdf.")

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        """Ends of the support."""
        del parameters
        return self._ends

    def _quantile(self, lower: Array, upper: Array, *parameters: Array) -> Array:
        """The inverse by search, unless the family has it in closed form."""

        def tails(x: Array) -> tuple[Array, Array]:
            either = self._tails(x, *parameters)
            return either.lower(), either.upper()

        ends = [jnp.broadcast_to(jnp.asarray(e, lower.dtype), lower.shape)
                for e in self._bounds(*parameters)]  # fmt: skip
        if self.support.discrete:
            return smallest_integer(lower, upper, tails, *ends)

        def density(x: Array) -> Array:
            return jnp.exp(self._density_at(x, *parameters))

        return monotone_quantile(lower, tails, density, *ends, tail=upper)

    # ---- what follows from them --------------------------------------------------------------

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value), shape of `value` broadcast with the batch; -inf off the support."""
        return _log_prob(self, self._event(value))

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X <= value)."""
        return self._tail_function(value, "lower", 0.0, 1.0)

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X > value), without the cancellation of 1 - cdf."""
        return self._tail_function(value, "upper", 1.0, 0.0)

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X <= value), accurate in both tails."""
        return self._tail_function(value, "log_lower", -jnp.inf, 0.0)

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X > value), accurate in both tails."""
        return self._tail_function(value, "log_upper", 0.0, -jnp.inf)

    def _tail_function(self, value: Numbers, name: str, below: float, above: float) -> Array:
        # Probabilities make sense at any number: only NaN and shapes are checked.
        anything = constraints.real._replace(discrete=self.support.discrete)
        value = check_event(self.name, value, self.batch_shape, (), anything)
        return _tail_function(self, value, name, below, above)

    def _inner_point(self, *parameters: Array) -> Any:
        """A point inside the support, for any parameters."""
        del parameters
        return self._inside

    def _invert(self, lower: Array, upper: Array) -> Array:
        return _invert(self, lower, upper)


def _states_both(cls: type) -> bool:
    """Whether the slopes belong to the density: a subclass may state another density alone."""
    owner = next(base for base in cls.__mro__ if {"_slopes", "_log_density"} & base.__dict__.keys())
    return "_slopes" in owner.__dict__


# Compiled once for each class and shape, so that calls outside of `jit` are quick as well.


@jax.jit
def _log_prob(family: Univariate, value: Array) -> Array:
    x, *parameters = family._aligned(value)
    allowed = family.support.check(x) & (jnp.abs(x) < jnp.inf)
    inside = jnp.where(allowed, x, family._inner_point(*parameters))
    outside = jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf)
    return jnp.where(allowed, family._density_at(inside, *parameters), outside)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _tail_function(
    family: Univariate, value: Array, name: str, below: float, above: float
) -> Array:
    x, *parameters = family._aligned(value)
    x = jnp.floor(x) if family.support.discrete else x
    low, high = family._bounds(*parameters)
    is_below = (x < low) | (x == -jnp.inf)
    is_above = (x >= high) | (x == jnp.inf)
    outside = is_below | is_above | jnp.isnan(x)
    inner = jnp.where(outside, family._inner_point(*parameters), x)
    probability = getattr(family._tails(inner, *parameters), name)()
    probability = jnp.where(is_below, below, jnp.where(is_above, above, probability))
    return jnp.where(jnp.isnan(x), jnp.nan, probability)


@jax.jit
def _invert(family: Univariate, lower: Array, upper: Array) -> Array:
    lower, upper, *parameters = family._aligned(lower, upper)
    low, high = family._bounds(*parameters)
    # The ends are exact, and keep infinities out of the gradient.
    first, last = lower <= 0.0, upper <= 0.0
    end = first | last
    x = family._quantile(jnp.where(end, 0.5, lower), jnp.where(end, 0.5, upper), *parameters)
    x = jnp.where(first, low, jnp.where(last, high, x))
    return jnp.where(jnp.isnan(lower), jnp.nan, x)


def probability_logs(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Returns log lower and log upper for two probabilities that sum to 1, each accurate."""
    small = lower < 0.5
    log_lower = jnp.where(
        small, jnp.log(jnp.where(small, lower, 0.5)), log1p(-jnp.where(small, 0.5, upper))
    )
    log_upper = jnp.where(
        small, log1p(-jnp.where(small, lower, 0.5)), jnp.log(jnp.where(small, 0.5, upper))
    )
    return log_lower, log_upper


def draw_uniform(key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns uniform draws from the open interval (0, 1)."""
    tiny = jnp.finfo(dtype).tiny
    return jax.random.uniform(key, shape, dtype, minval=tiny)
