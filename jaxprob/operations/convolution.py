"""A convolution that is as fast inside a compiled loop, and under `vmap`, as it is alone.

    y[t, o] = sum_{j, i} w[j, i, o] x'[s t + d j - p, i],   x'[b n] = x[n], zero between

with stride s, kernel dilation d, padding p and input dilation b. The map is linear in x and in w.
XLA on a CPU has a fast path for it that wants channels last; the derivatives that XLA forms lose
that layout inside of a loop, and `vmap` over kernels makes a grouped convolution, which has no fast
path. Here each derivative is written as a convolution with channels last, and kernels with an axis
of their own are gone through one after the other:

    to x:  the convolution of the cotangent, dilated by s, with the kernel turned round,
           its channels exchanged, stride b
    to w:  g[j, i, o] = sum_t x'[s t + d j - p, i] c[t, o], the convolution of x (channels as rows)
           with the cotangent (rows as channels), stride d, kernel dilation s

Both are two primitives, whose derivatives are again these two, so that `grad`, `jvp` and `vmap` go
together in any order. On accelerators, and for what has no fast path at all (integers, complex
numbers, empty arrays), `conv_general_dilated` is that of `jax.lax`.

Twin: none; torch's own convolutions, which the parity rows of layers compare with.
"""

import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxprob.types import Array

__all__ = ["conv_general_dilated", "convolution_p", "in_channels_last", "kernel_gradient_p"]

BLOCK = 32
"""Groups with fewer channels than this are joined to blocks with zeros between the groups."""

SMALL = 2**14
"""A result with more numbers than this is computed apart for each of several kernels."""


class Geometry(NamedTuple):
    """How a window moves, a number for each spatial axis (two for the padding)."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    dilation: tuple[int, ...]

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Returns the spatial shape of the result."""
        return tuple(
            (b * (n - 1) + 1 + sum(p) - d * (k - 1) - 1) // s + 1
            for n, k, s, p, b, d in zip(size, kernel, *self, strict=True)
        )

    def towards_input(
        self, size: Sequence[int], kernel: Sequence[int], output: Sequence[int]
    ) -> "Geometry":
        """Returns that of the convolution of a cotangent that gives the gradient of the input."""
        padding = tuple(
            (d * (k - 1) - p[0], b * (n - 1) - s * (m - 1) + p[0])
            for n, k, m, s, p, b, d in zip(size, kernel, output, *self, strict=True)
        )
        return Geometry(self.input_dilation, padding, self.stride, self.dilation)

    def towards_kernel(
        self, size: Sequence[int], kernel: Sequence[int], output: Sequence[int]
    ) -> "Geometry":
        """Returns that of the convolution of an input with a cotangent."""
        padding = tuple(
            (p[0], d * (k - 1) + s * (m - 1) - b * (n - 1) - p[0])
            for n, k, m, s, p, b, d in zip(size, kernel, output, *self, strict=True)
        )
        return Geometry(self.dilation, padding, self.input_dilation, self.stride)

    def of_transpose(self, kernel: Sequence[int]) -> "Geometry":
        """Returns that of the convolution of which this one, with stride 1, is the transpose."""
        padding = tuple(
            (d * (k - 1) - p[0], d * (k - 1) - p[1])
            for k, p, d in zip(kernel, self.padding, self.dilation, strict=True)
        )
        return Geometry(self.input_dilation, padding, self.stride, self.dilation)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated`, with derivatives and batching that stay fast on a CPU.

    Arguments, result and errors are those of `jax.lax.conv_general_dilated`, which is also what
    computes it on an accelerator. May be given to a Linen layer:
    `nn.Conv(..., conv_general_dilated=jaxprob.nn.conv_general_dilated)`. Of the transformations of
    JAX only `jax.experimental.jet` knows no rule for it.

    Returns:
      The convolution, equal to that of `jax.lax` but for rounding.
    """
    axes = len(window_strides)
    arguments = (
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
        feature_group_count, batch_group_count, precision, preferred_element_type,
    )  # fmt: skip
    placed = {} if out_sharding is None else {"out_sharding": out_sharding}
    as_lax = functools.partial(lax.conv_general_dilated, *arguments, **placed)
    groups = (feature_group_count, batch_group_count)
    if placed or batch_group_count != 1 or not _are_counts((*window_strides, *groups)):
        return as_lax()
    # All that is wrong is told by JAX, which knows the shapes before it computes.
    out = jax.eval_shape(as_lax)
    if not _has_fast_path(lhs, rhs, out, axes):
        return as_lax()
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if any(sorted(spec) != list(range(axes + 2)) for spec in numbers):
        return as_lax()
    ones = (1,) * axes
    dilation = ones if rhs_dilation is None else tuple(map(int, rhs_dilation))
    input_dilation = ones if lhs_dilation is None else tuple(map(int, lhs_dilation))
    stride = tuple(map(int, window_strides))
    x = jnp.transpose(lhs, (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1]))
    w = jnp.transpose(rhs, (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]))
    if isinstance(padding, str):
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[:axes], strict=True)]
        padding = lax.padtype_to_pads(x.shape[1 : 1 + axes], spans, stride, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    y = in_channels_last(x, w, Geometry(stride, pads, input_dilation, dilation),
                         feature_group_count)  # fmt: skip
    back = [0] * y.ndim
    for place, axis in enumerate((numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])):
        back[axis] = place
    return jnp.transpose(y, back)


def in_channels_last(x: Array, w: Array, geometry: Geometry, groups: int) -> Array:
    """Convolves `[N, *spatial, C]` with `[*kernel, C / groups, O]`, in groups of channels.

    Many small groups are joined to blocks whose kernel has zeros between the groups: the fast path
    has no groups, and computes the zeros in less time than the slow one leaves them out.
    """
    if groups == 1:
        return _convolve(x, w, geometry)
    kernel, size = w.shape[:-2], w.shape[-2]
    features = w.shape[-1] // groups
    joined = next(
        n for n in range(1, groups + 1)
        if groups % n == 0 and (n == groups or n * min(size, features) >= BLOCK)
    )  # fmt: skip
    blocks = groups // joined
    w = w.reshape(*kernel, size, blocks, joined, features)
    same = jnp.eye(joined, dtype=w.dtype)
    w = jnp.einsum("...ibgo,hg->...bhigo", w, same)
    w = w.reshape(*kernel, blocks, joined * size, joined * features)
    x = x.reshape(*x.shape[:-1], blocks, joined * size)
    convolve = functools.partial(_convolve, geometry=geometry)
    y = jax.vmap(convolve, in_axes=(-2, -3), out_axes=-2)(x, w)
    return y.reshape(*y.shape[:-2], -1)


def _are_counts(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, (int, np.integer)) and value > 0 for value in values)


def _has_fast_path(lhs: Array, rhs: Array, out: Any, axes: int) -> bool:
    """Whether it is a convolution of floats on this CPU with something to compute."""
    floats = jnp.issubdtype(lhs.dtype, jnp.floating) and lhs.dtype == rhs.dtype == out.dtype
    some = 0 not in (*lhs.shape, *rhs.shape, *out.shape)
    alone = not (_is_followed(lhs) or _is_followed(rhs))
    return jax.default_backend() == "cpu" and 1 <= axes <= 3 and floats and some and alone


def _is_followed(value: Array) -> bool:
    """Whether its type says where its shards are, for which these primitives have no rule."""
    kind = jax.typeof(value)
    if jax.sharding.AxisType.Explicit in (kind.sharding.mesh.axis_types or ()):
        return True
    kind = getattr(kind, "manual_axis_type", kind)  # before JAX 0.10.2 the type itself says it
    return bool(getattr(kind, "varying", None) or getattr(kind, "vma", None))


def _convolve(x: Array, w: Array, geometry: Geometry) -> Array:
    return convolution_p.bind(x, w, geometry=geometry, members=False)


def _spec(axes: int) -> tuple[str, str, str]:
    spatial = "DHW"[-axes:]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def _lax(x: Array, w: Array, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(x, w, *geometry, dimension_numbers=_spec(x.ndim - 2))


def _each(function: Any, members: bool, *args: Array) -> Array:
    """Members one after the other: each is as fast as alone, all at once are a grouped product."""
    return lax.map(lambda one: function(*one), args) if members else function(*args)


convolution_p = Primitive("convolution")
"""y from x `[(M), N, *spatial, C]` and w `[(M), *kernel, C, O]`, both with M or neither."""

kernel_gradient_p = Primitive("convolution_kernel_gradient")
"""The gradient of w from x and a cotangent `[(M), N, *output, O]`."""


def _convolution(x: Array, w: Array, *, geometry: Geometry, members: bool) -> Array:
    return _each(functools.partial(_lax, geometry=geometry), members, x, w)


def _kernel_gradient(
    x: Array, c: Array, *, kernel: tuple[int, ...], geometry: Geometry, members: bool
) -> Array:
    return _each(functools.partial(_one_gradient, kernel=kernel, geometry=geometry), members, x, c)


def _one_gradient(x: Array, c: Array, kernel: tuple[int, ...], geometry: Geometry) -> Array:
    if max(geometry.input_dilation) > 1 and max(geometry.stride) == 1:
        # The same sum, without zeros between the points of x.
        g = _one_gradient(c, x, kernel, geometry.of_transpose(kernel))
        return jnp.swapaxes(lax.rev(g, range(len(kernel))), -1, -2)
    axes = len(kernel)
    moved = geometry.towards_kernel(x.shape[1:-1], kernel, c.shape[1:-1])
    channels_first = (x.ndim - 1, *range(1, 1 + axes), 0)
    rows_last = (*range(1, 1 + axes), 0, c.ndim - 1)
    a, b = jnp.transpose(x, channels_first), jnp.transpose(c, rows_last)
    # Without the barrier XLA undoes the transposes by another layout, which has no fast path.
    g = _lax(*lax.optimization_barrier((a, b)), moved)
    return jnp.transpose(g, rows_last)


def _convolution_shape(x: Any, w: Any, *, geometry: Geometry, members: bool) -> Any:
    lead = int(members)
    size = geometry.output_size(x.shape[1 + lead : -1], w.shape[lead:-2])
    return jax.core.ShapedArray((*x.shape[: 1 + lead], *size, w.shape[-1]), x.dtype)


def _kernel_gradient_shape(
    x: Any, c: Any, *, kernel: tuple[int, ...], geometry: Geometry, members: bool
) -> Any:
    del geometry
    lead = x.shape[: int(members)]
    return jax.core.ShapedArray((*lead, *kernel, x.shape[-1], c.shape[-1]), x.dtype)


# Transposes: the cotangent first, in place of an unknown operand its shape.


def _to_input(c: Array, x: Any, w: Array, *, geometry: Geometry, members: bool) -> Array:
    lead = int(members)
    size, kernel = x.aval.shape[1 + lead : -1], w.shape[lead:-2]
    turned = jnp.swapaxes(lax.rev(w, range(lead, lead + len(kernel))), -1, -2)
    back = geometry.towards_input(size, kernel, c.shape[1 + lead : -1])
    # Without the barrier XLA undoes the turning by another layout, which has no fast path.
    return convolution_p.bind(c, lax.optimization_barrier(turned), geometry=back, members=members)


def _to_kernel(c: Array, x: Array, w: Any, *, geometry: Geometry, members: bool) -> Array:
    kernel = w.aval.shape[int(members) : -2]
    return kernel_gradient_p.bind(x, c, kernel=kernel, geometry=geometry, members=members)


def _gradient_to_input(
    g: Array, x: Any, c: Array, *, kernel: Any, geometry: Geometry, members: bool
) -> Array:
    del kernel
    return _to_input(c, x, g, geometry=geometry, members=members)


def _gradient_to_cotangent(
    g: Array, x: Array, c: Any, *, kernel: Any, geometry: Geometry, members: bool
) -> Array:
    del kernel, c
    return convolution_p.bind(x, g, geometry=geometry, members=members)


# Batching: an axis of one operand becomes rows or channels of it, one of both becomes members.


def _batch_convolution(args: Any, dims: Any, *, geometry: Geometry, members: bool) -> Any:
    (x, w), (x_dim, w_dim) = args, dims
    bind = functools.partial(convolution_p.bind, geometry=geometry)
    lead = int(members)
    if x_dim is None and not members and _size(x, w, w_dim, geometry) > SMALL:
        # So many channels at once would have to be moved: as members they come apart.
        x, x_dim = jnp.broadcast_to(x, (w.shape[w_dim], *x.shape)), 0
    if x_dim is not None and w_dim is not None:
        return _as_members(bind, (x, w), (x_dim, w_dim), members), 0
    if w_dim is None:  # more rows
        x = jnp.moveaxis(x, x_dim, lead)
        size = x.shape[lead : lead + 2]
        y = bind(_merge(x, lead), w, members=members)
        return y.reshape(*y.shape[:lead], *size, *y.shape[lead + 1 :]), lead
    w = jnp.moveaxis(w, w_dim, -2)  # more channels of the result
    size = w.shape[-2:]
    y = bind(x, _merge(w, w.ndim - 2), members=members)
    return jnp.moveaxis(y.reshape(*y.shape[:-1], *size), -2, 0), 0


def _batch_kernel_gradient(
    args: Any, dims: Any, *, kernel: Any, geometry: Geometry, members: bool
) -> Any:
    (x, c), (x_dim, c_dim) = args, dims
    bind = functools.partial(kernel_gradient_p.bind, kernel=kernel, geometry=geometry)
    if x_dim is not None and c_dim is not None:
        return _as_members(bind, (x, c), (x_dim, c_dim), members), 0
    if c_dim is None:  # more channels of the input
        x = jnp.moveaxis(x, x_dim, -2)
        size = x.shape[-2:]
        g = bind(_merge(x, x.ndim - 2), c, members=members)
        return jnp.moveaxis(g.reshape(*g.shape[:-2], *size, g.shape[-1]), -3, 0), 0
    c = jnp.moveaxis(c, c_dim, -2)  # more channels of the result
    size = c.shape[-2:]
    g = bind(x, _merge(c, c.ndim - 2), members=members)
    return jnp.moveaxis(g.reshape(*g.shape[:-1], *size), -2, 0), 0


def _as_members(bind: Any, args: Any, dims: tuple[int, int], members: bool) -> Array:
    """Calls the primitive for an axis that both have, beside the members that there are."""
    a, b = (jnp.moveaxis(arg, dim, 0) for arg, dim in zip(args, dims, strict=True))
    if not members:
        return bind(a, b, members=True)
    y = bind(_merge(a, 0), _merge(b, 0), members=True)
    return y.reshape(*a.shape[:2], *y.shape[1:])


def _size(x: Array, w: Array, w_dim: int, geometry: Geometry) -> int:
    """Numbers in the result for one of many kernels."""
    one = jax.ShapeDtypeStruct((*w.shape[:w_dim], *w.shape[w_dim + 1 :]), w.dtype)
    return math.prod(_convolution_shape(x, one, geometry=geometry, members=False).shape)


def _merge(a: Array, axis: int) -> Array:
    """Makes one axis of this one and the next."""
    return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])


def _register(
    primitive: Primitive, compute: Any, shape: Any, transposes: tuple[Any, Any], batch: Any
) -> None:
    static = tuple(inspect.signature(shape).parameters)[2:]
    primitive.def_impl(jax.jit(compute, static_argnames=static))
    primitive.def_abstract_eval(shape)
    ad.defbilinear(primitive, *transposes)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))


_register(
    convolution_p, _convolution, _convolution_shape, (_to_input, _to_kernel), _batch_convolution
)
_register(
    kernel_gradient_p,
    _kernel_gradient,
    _kernel_gradient_shape,
    (_gradient_to_input, _gradient_to_cotangent),
    _batch_kernel_gradient,
)
