"""What families over numbers share: checks, broadcasting, edges of the support, tails, quantiles.

A family states its formulas, for arrays that are aligned and inside the support:

    _log_density(x, *parameters)       log p(x)
    _tails(x, *parameters)             one of the two tail probabilities (see `tails.py`)
    _gradients(x, *parameters)            partial derivatives of log p, where autodiff's are slow
    _drifts(x, *parameters)            how x follows a parameter that moves or stretches it
    _quantile(lower, upper, ...)       the inverse, if it has one in closed form
    _sample_n(key, n), mean(), ...

and gets `log_prob`, `cdf`, `log_cdf`, `survival_function`, `quantile`, `interval`, ... from this
class. Outside of the support `log_prob` is -inf, its gradient 0; NaN stays NaN.
The derivative of a cdf towards the value is the density, at an end of the support the one inside.

Twin: `torch_ref/distributions/univariate.py`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.gradients import with_gradients
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

    _may_be_infinite: tuple[str, ...] = ("logits",)
    _dense = True  # over real numbers: the density is the derivative of the tails
    _inside: float = 0.0  # a point of the support, which stands in for values outside
    _ends: tuple[float, float] = (-float("inf"), float("inf"))  # of the support

    def _set(self, **parameters: Numbers) -> None:
        """Checks, broadcasts and stores the parameters."""
        owner, infinite = type(self).__name__, self._may_be_infinite
        arrays = as_parameters(owner, self.arg_constraints, may_be_infinite=infinite, **parameters)
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

    _gradients: Callable[..., tuple[Array, ...]] | None = None

    def _density_at(self, x: Array, *parameters: Array) -> Array:
        """The formula together with its gradients."""
        if self._gradients is None or not _states_both(type(self)):
            return self._log_density(x, *parameters)
        return with_gradients(self._log_density, self._gradients)(x, *parameters)

    def _allowed(self, x: Array) -> Array:
        """Where x is a finite point of the support."""
        return self.support.check(x) & (jnp.abs(x) < jnp.inf)

    def _masked_density(self, allowed: Array, x: Array, *parameters: Array) -> Array:
        """The same for any x: -inf where it is not allowed, and a gradient of 0 with it."""

        def value(allowed: Array, x: Array, *parameters: Array) -> Array:
            inside = jnp.where(allowed, x, self._inner_point(*parameters))
            outside = jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf)
            density = self._log_density if states else self._density_at
            return jnp.where(allowed, density(inside, *parameters), outside)

        def gradients(allowed: Array, x: Array, *parameters: Array) -> tuple[Array, ...]:
            inside = jnp.where(allowed, x, self._inner_point(*parameters))
            inner = self._gradients(inside, *parameters)  # pyright: ignore[reportOptionalCall]
            return (allowed, *(jnp.where(allowed, gradient, 0.0) for gradient in inner))

        states = self._gradients is not None and _states_both(type(self))
        function = with_gradients(value, gradients) if states else value
        return function(allowed, x, *parameters)

    def _tails(self, x: Array, *parameters: Array) -> Tails:
        raise NotImplementedError(f"{self.name} has no cdf.")

    def _tail_probabilities(self, x: Array, *parameters: Array) -> tuple[Array, Array]:
        """P(X <= x) and P(X > x)."""
        tails = self._tails(x, *parameters)
        return tails.lower(), tails.upper()

    def _drifts(self, x: Array, *parameters: Array) -> tuple[Array | None, ...]:
        """Dx / dparameter at which the tails stay as they are; None where that is not known.

        The tails' derivative towards such a parameter is minus the density times its drift.
        """
        del x
        return (None,) * len(parameters)

    def _states_probabilities(self) -> bool:
        return type(self)._tail_probabilities is not Univariate._tail_probabilities

    def _tail(self, name: str, x: Array, *parameters: Array) -> Array:
        """One of the four: "lower", "upper" and their logarithms."""
        if name.startswith("log"):
            return getattr(self._tails(x, *parameters), name)()
        return self._tail_probabilities(x, *parameters)[name == "upper"]

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        """Ends of the support."""
        del parameters
        return self._ends

    def _quantile(self, lower: Array, upper: Array, *parameters: Array) -> Array:
        """The inverse by search, unless the family has it in closed form."""

        def tails(x: Array) -> tuple[Array, Array]:
            return self._tail_probabilities(x, *parameters)

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

    def _kink(self, *parameters: Array) -> Array | None:
        """Where the density has a corner; None for smooth ones."""
        del parameters
        return None

    def _inner_point(self, *parameters: Array) -> Any:
        """A point inside the support, for any parameters."""
        del parameters
        return self._inside

    def _invert(self, lower: Array, upper: Array) -> Array:
        return _invert(self, lower, upper)


def _states_both(cls: type) -> bool:
    """Whether the gradients belong to the density: a subclass may state another density alone."""
    owner = next(
        base for base in cls.__mro__ if {"_gradients", "_log_density"} & base.__dict__.keys()
    )
    return "_gradients" in owner.__dict__


# Compiled once for each class and shape, so that calls outside of `jit` are quick as well.


@jax.jit
def _log_prob(family: Univariate, value: Array) -> Array:
    x, *parameters = family._aligned(value)
    return family._masked_density(family._allowed(x), x, *parameters)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _tail_function(
    family: Univariate, value: Array, name: str, below: float, above: float
) -> Array:
    x, *parameters = family._aligned(value)
    discrete = family.support.discrete
    x = jnp.floor(x) if discrete else x

    def regions(x: Array, *parameters: Array) -> tuple[Array, Array, Array]:
        low, high = family._bounds(*parameters)
        is_below = (x < low) | (x == -jnp.inf)
        is_above = (x >= high) | (x == jnp.inf)
        outside = is_below | is_above | jnp.isnan(x)
        return is_below, is_above, jnp.where(outside, family._inner_point(*parameters), x)

    @jax.custom_jvp
    def tail(allowed: Array, x: Array, *parameters: Array) -> Array:
        is_below, is_above, inside = regions(x, *parameters)
        probability = family._tail(name, inside, *parameters)
        probability = jnp.where(is_below, below, jnp.where(is_above, above, probability))
        return jnp.where(jnp.isnan(x), jnp.nan, probability)

    @tail.defjvp
    def rule(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        allowed, x, *parameters = primals
        probability = tail(*primals)
        is_below, is_above, inside = regions(x, *parameters)
        # A tail that has underflowed has no gradient left to compute.
        gone = probability == -jnp.inf
        if name.startswith("log"):
            gone = gone | (probability == 0.0)  # the other tail has underflowed
        elif not family._states_probabilities():
            gone = gone | (family._tails(inside, *parameters).log_tail == -jnp.inf)
        inside = jnp.where(gone, family._inner_point(*parameters), inside)
        inside = jax.lax.stop_gradient(inside)
        flat = gone | is_below | is_above | jnp.isnan(x)
        if discrete:
            by_density = jnp.ones_like(flat)
        else:
            # At an end the tail has no gradient of its own to follow; the logarithm of a small tail
            # has, and the difference of two large logarithms would cancel.
            low, high = family._bounds(*parameters)
            by_density = flat | (x <= low) | (x >= high)
            by_density = by_density | (not name.startswith("log")) | (probability > -1.0)
        held = jnp.where(jnp.isnan(x) | jnp.isinf(x), family._inner_point(*parameters), x)
        drifts = (None,) * len(parameters) if discrete else family._drifts(held, *parameters)
        largest = jnp.finfo(x.dtype).max  # an infinite one times 0 would be NaN
        known = [(jnp.clip(drift, -largest, largest), dot)
                 for drift, dot in zip(drifts, tangents[2:], strict=True)
                 if drift is not None]  # fmt: skip
        others = [dot if drift is None else jnp.zeros_like(dot)
                  for drift, dot in zip(drifts, tangents[2:], strict=True)]  # fmt: skip
        move = tangents[1] - sum(drift * dot for drift, dot in known)
        dots = [jnp.where(flat, 0.0, jnp.broadcast_to(d, flat.shape)) for d in others]
        dots = [jnp.where(by_density, 0.0, jnp.broadcast_to(move, flat.shape)), *dots]
        wide = [inside, *(jnp.broadcast_to(p, flat.shape) for p in parameters)]
        change = jax.jvp(lambda *a: family._tail(name, *a), tuple(wide), tuple(dots))[1]
        if not discrete and family._dense:
            log_density = family._masked_density(allowed, x, *parameters)
            beyond = jnp.isnan(x) | (x < low) | (x > high)  # where a periodic density goes on
            log_density = jnp.where(beyond, -jnp.inf, log_density)
            log_gradient = _log_gradient_of_tail(log_density, probability, name)
            log_gradient = jnp.where(by_density, log_gradient, -jnp.inf)
            sign = 1.0 if name.endswith("lower") else -1.0
            change = change + sign * jnp.exp(log_gradient) * tangents[1]
            for drift, dot in known:
                change = change - sign * _times_exp(drift, log_gradient) * dot
        return probability, change

    return tail(family._allowed(x), x, *parameters)


def _log_gradient_of_tail(log_density: Array, probability: Array, name: str) -> Array:
    """Logarithm of the size of a tail's derivative towards the value, or of its logarithm's."""
    if not name.startswith("log"):
        return log_density
    gone = probability == -jnp.inf
    return jnp.where(gone, -jnp.inf, log_density - jnp.where(gone, 0.0, probability))


def _times_exp(factor: Array, log: Array) -> Array:
    """Returns factor * exp(log), where the exponential alone would underflow or overflow."""
    limits = jnp.finfo(log.dtype)
    beyond = (log < math.log(limits.tiny)) | (log > math.log(limits.max))
    apart = beyond & (log > -jnp.inf) & (factor != 0.0)
    size = jnp.log(jnp.abs(jnp.where(apart, factor, 1.0))) + jnp.where(apart, log, 0.0)
    product = factor * jnp.exp(jnp.where(beyond, -jnp.inf, log))
    return jnp.where(apart, jnp.sign(factor) * jnp.exp(size), product)


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
