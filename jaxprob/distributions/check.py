"""The test-kit for a distribution, ours or a user's own: does it keep its promises to itself?

    density   integrates (or sums) to 1, and is 0 off the support
    cdf       is the integral of the density; quantile is its inverse
    mean, variance   are those of the density
    sample    follows the density: sup |F_n - F| <= 2.5 / sqrt(n), which chance breaks 1 time in 1e5
    edges     jit, vmap and grad give what plain calls give

Numbers are integrated over panels between sorted draws, and over ever longer panels beyond them, so
that nothing needs to be known of the support. Vectors are weighed against a normal distribution
fitted to them: E_p[g(X) / p(X)] = 1.

Source: Kolmogorov (1933) for the distance of an empirical cdf.
"""

import math
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob.distributions import constraints
from jaxprob.distributions.validation import unchecked
from jaxprob.requirements import require_count
from jaxprob.types import Key

__all__ = ["CheckReport", "check_distribution"]

QUADRATURE = 3e-3  # what the panels may miss, mostly beyond the last draws
PANELS = 100


class Finding(NamedTuple):
    """One promise: its name, whether it is kept, and the numbers."""

    check: str
    passed: bool
    detail: str


class CheckReport(NamedTuple):
    """What `check_distribution` found; `print` it, or `require` that all is well."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise is kept."""
        return all(finding.passed for finding in self.findings)

    def require(self) -> None:
        """Raises a `ValueError` that lists every broken promise."""
        broken = [f"  {f.check}: {f.detail}" for f in self.findings if not f.passed]
        if broken:
            count = f"{len(broken)} of {len(self.findings)} checks failed"
            raise ValueError("\n".join([f"{self.name}: {count}", *broken]))

    def __str__(self) -> str:
        table = Table(title=self.name)
        for column in ("check", "verdict", "detail"):
            table.add_column(column)
        for finding in self.findings:
            table.add_row(finding.check, "ok" if finding.passed else "FAILED", finding.detail)
        console = Console(width=100)
        with console.capture() as capture:
            console.print(table)
        return capture.get()


def check_distribution(
    distribution: distrax.Distribution, key: Key, num_samples: int = 20_000, raises: bool = True
) -> CheckReport:
    """Checks that a distribution agrees with itself and survives jit, vmap and grad.

    Args:
      distribution: Any `distrax.Distribution`; events may be numbers or vectors.
      key: Key of the draws.
      num_samples: Number of draws; errors of the sampler above 2.5 / sqrt(num_samples) are found.
      raises: Whether broken promises raise; else they only stand in the report.

    Returns:
      The report, which prints as a table.

    Raises:
      ValueError: Listing every promise that is broken.
    """
    require_count("check_distribution", num_samples=num_samples)
    report = _Report(distribution.name, [])
    with unchecked():
        draws = report.attempt("sample", lambda: _draws(report, distribution, key, num_samples))
        if draws is not None:
            ndim = len(distribution.event_shape)
            check = {0: _numbers, 1: _vectors}.get(ndim)
            if check is not None:
                report.attempt("density", lambda: check(report, distribution, draws))
            report.attempt("support", lambda: _off_support(report, distribution, draws))
            report.attempt("jit", lambda: _jit(report, distribution, draws[:5]))
            report.attempt("vmap", lambda: _vmap(report, distribution, np.asarray(draws[0])))
            report.attempt("grad", lambda: _grad(report, distribution, np.asarray(draws[0])))
    result = CheckReport(report.name, tuple(report.findings))
    if raises:
        result.require()
    return result


class _Report(NamedTuple):
    name: str
    findings: list[Finding]

    def add(self, check: str, passed: Any, detail: str) -> None:
        self.findings.append(Finding(check, bool(passed), detail))

    def attempt(self, check: str, call) -> Any:
        """Runs a check; what it raises is a finding, but for what does not exist."""
        try:
            return call()
        except NotImplementedError:
            return None
        except Exception as error:  # noqa: BLE001 any failure of the user's code is a finding
            self.add(check, False, f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return None

    def close(self, check: str, got: Any, want: Any, tolerance: Any) -> None:
        got, want = np.asarray(got, float), np.asarray(want, float)
        with np.errstate(invalid="ignore"):
            gap = np.where(got == want, 0.0, np.abs(got - want))
        worst = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
        got, want = np.broadcast_to(got, gap.shape)[worst], np.broadcast_to(want, gap.shape)[worst]
        detail = f"{got:.6g}, expected {want:.6g}"
        self.add(check, np.all(gap <= tolerance), detail)


def _draws(report: _Report, d: Any, key: Key, n: int) -> np.ndarray:
    draws = d.sample(seed=key, sample_shape=(n,))
    expected = (n, *d.batch_shape, *d.event_shape)
    report.add("shape of draws", draws.shape == expected, f"{draws.shape}, expected {expected}")
    log_prob = d.log_prob(draws)
    expected = (n, *d.batch_shape)
    report.add("shape of log_prob", log_prob.shape == expected, f"{log_prob.shape}, {expected}")
    lost = int(np.sum(~np.isfinite(np.asarray(log_prob))))
    report.add("density of draws", lost == 0, f"{lost} of {log_prob.size} log_probs not finite")
    again, joint = d.sample_and_log_prob(seed=key, sample_shape=(n,))
    report.close("sample_and_log_prob", joint, d.log_prob(again), 1e-3 * (1 + np.abs(joint)))
    return np.asarray(draws)


def _is_discrete(d: Any, draws: np.ndarray) -> bool:
    support = getattr(d, "support", None)
    return bool(getattr(support, "discrete", False) or np.issubdtype(draws.dtype, np.integer))


def _numbers(report: _Report, d: Any, draws: np.ndarray) -> None:
    n = len(draws)
    ordered = np.sort(draws.astype(float), axis=0)
    flat = ordered[0] == ordered[-1]
    if np.all(flat):
        report.add("normalisation", True, "a single point")
        return
    periodic = getattr(d, "periodic", False)  # one turn of the circle, circular moments
    discrete = _is_discrete(d, draws)
    x, weights, ends = _atoms(ordered) if discrete else _panels(ordered, beyond=not periodic)
    density = np.exp(np.asarray(d.log_prob(jnp.asarray(x, d.log_prob(draws[0]).dtype)), float))
    mass = weights * density
    cumulative = np.cumsum(mass, axis=0)
    report.close("normalisation", cumulative[-1], 1.0, QUADRATURE)
    at, below = x[ends], cumulative[ends]
    empirical = np.stack([np.mean(draws <= a, axis=0) for a in at])
    report.close("draws against the density", empirical, below, 2.5 / math.sqrt(n) + QUADRATURE)
    mean = np.sum(mass * x, axis=0)
    spread = np.sqrt(np.sum(mass * (x - mean) ** 2, axis=0))
    for name, got in (("mean", mean), ("variance", spread**2)):
        want = report.attempt(name, lambda name=name: np.asarray(getattr(d, name)(), float))
        if want is None or periodic or not np.all(np.isfinite(want)):
            continue
        report.close(name, want, got, 0.02 * spread ** (1 if name == "mean" else 2))
    cdf = report.attempt("cdf", lambda: np.asarray(d.cdf(jnp.asarray(at)), float))
    if cdf is None:
        return
    report.close("cdf against the integral", cdf, below, QUADRATURE)
    if hasattr(d, "quantile"):
        inside = (cdf > 1e-3) & (cdf < 1 - 1e-3)
        q = jnp.asarray(np.where(inside, cdf, 0.5))
        back = report.attempt("quantile", lambda: np.asarray(d.quantile(q), float))
        if back is not None:
            gap = np.where(inside, np.abs(np.asarray(d.cdf(jnp.asarray(back))) - cdf), 0.0)
            report.close("quantile inverts the cdf", gap, 0.0 * gap, 1e-4)


def _atoms(ordered: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray]:
    """The integers around the draws."""
    low, high = float(ordered[0].min()), float(ordered[-1].max())
    room = 30 + 2 * (high - low)
    if room > 1e6:
        raise NotImplementedError
    count = np.arange(math.floor(low - room), math.ceil(high + room) + 1)
    column = count.reshape((-1,) + (1,) * (ordered.ndim - 1))
    x = np.broadcast_to(column, (len(count), *ordered.shape[1:]))
    inside = np.flatnonzero((count >= low) & (count <= high))
    return x.astype(float), 1.0, inside[:: max(1, len(inside) // 50)]


def _panels(ordered: np.ndarray, beyond: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes between draws and beyond; the last node of each panel is at its end."""
    n = len(ordered)
    few = np.geomspace(1, n / PANELS, 12)  # the tails may be long: panels that double
    places = np.concatenate([np.linspace(0, n - 1, PANELS), few, n - 1 - few])
    inner = ordered[np.unique(places.astype(int))]
    size = np.maximum(ordered[-1] - ordered[0], 1e-30)
    growth = np.concatenate([[0.0], 1e-6 * 4.0 ** np.arange(22 if beyond else 0)])
    growth = growth.reshape((-1,) + (1,) * (ordered.ndim - 1))
    below, above = ordered[0] - size * growth[:0:-1], ordered[-1] + size * growth[1:]
    edges = np.concatenate([below, inner, above])
    nodes, weights = np.polynomial.legendre.leggauss(12)
    nodes, weights = np.append(nodes, 1.0), np.append(weights, 0.0)
    shape = (-1, *ordered.shape[1:])
    column = (1, -1) + (1,) * (ordered.ndim - 1)
    low, half = edges[:-1, None], 0.5 * np.diff(edges, axis=0)[:, None]
    x = (low + half * (1.0 + nodes.reshape(column))).reshape(shape)
    ends = 13 * np.arange(len(below), len(below) + len(inner) - 1) + 12
    return x, (half * weights.reshape(column)).reshape(shape), ends


def _vectors(report: _Report, d: Any, draws: np.ndarray) -> None:
    n = len(draws)
    floats = draws.astype(float)
    for name, power in (("mean", 1), ("variance", 2)):
        want = report.attempt(name, lambda name=name: np.asarray(getattr(d, name)(), float))
        if want is None or not np.all(np.isfinite(want)):
            continue
        values = floats if power == 1 else (floats - floats.mean(0)) ** 2
        error = values.std(0) / math.sqrt(n)
        report.close(f"{name} of draws", want, values.mean(0), 5.0 * error + 1e-9)
    if _is_discrete(d, draws):
        if d.batch_shape == ():
            kinds, count = np.unique(draws, axis=0, return_counts=True)
            share = np.exp(np.asarray(d.log_prob(jnp.asarray(kinds)), float))
            error = 5.0 * np.sqrt(share / n) + 5.0 / n
            report.close("draws against the density", count / n, share, error)
            unseen = 5.0 * len(kinds) / n + 1e-3
            report.close("normalisation", share.sum(), 1.0, unseen)
        return
    support = getattr(d, "support", constraints.real_vector)
    free = constraints.to_unconstrained(support) if support.bijection else None
    z, log_det = (
        (jnp.asarray(draws), 0.0) if free is None else free.forward_and_log_det(jnp.asarray(draws))
    )
    if free is not None and free.event_ndims_in == 0:
        log_det = jnp.sum(log_det, axis=-1)
    z, log_p = np.asarray(z, float), np.asarray(d.log_prob(draws) - log_det, float)
    centred = z - z.mean(0)
    # Half the covariance: the ratio g / p then has a small variance where p is about normal.
    covariance = 0.5 * np.einsum("n...i,n...j->...ij", centred, centred) / n
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor[None], centred[..., None])[..., 0]
    half_log_det = np.sum(np.log(np.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    log_g = -0.5 * np.sum(white**2, -1) - half_log_det - 0.5 * z.shape[-1] * math.log(2 * math.pi)
    ratio = np.exp(log_g - log_p)
    error = 5.0 * ratio.std(0) / math.sqrt(n)
    report.close("normalisation", ratio.mean(0), 1.0, np.minimum(error, 0.2) + 1e-9)


def _off_support(report: _Report, d: Any, draws: np.ndarray) -> None:
    support = getattr(d, "support", None)
    if support is None:
        return
    inside = np.broadcast_to(draws[0], draws[0].shape).astype(float)
    wrong = []
    for name, step in (("x - 1e6", -1e6), ("x + 1e6", 1e6), ("x + 1/3", 1 / 3)):
        value = inside + step
        outside = ~np.asarray(support.check(jnp.asarray(value)))
        log_prob = np.asarray(d.log_prob(jnp.asarray(value)))
        if np.any(outside & (log_prob != -np.inf)):
            wrong.append(name)
    report.add("-inf off the support", not wrong, f"not so at {', '.join(wrong)}" if wrong else "")


def _jit(report: _Report, d: Any, draws: np.ndarray) -> None:
    plain, x = d.log_prob(draws), jnp.asarray(draws)
    tolerance = 1e-4 * (1 + np.abs(plain))
    report.close("jit", jax.jit(lambda d, x: d.log_prob(x))(d, x), plain, tolerance)
    returned = jax.jit(lambda d: d)(d)
    report.close("out of jit", returned.log_prob(x), plain, tolerance)


def _vmap(report: _Report, d: Any, draw: np.ndarray) -> None:
    x = jnp.asarray(draw)
    plain = np.asarray(d.log_prob(x))
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), d)
    expected, tolerance = (2, *d.batch_shape), 1e-4 * (1 + np.abs(plain))
    inside = jax.vmap(lambda d: d.log_prob(x))(two)
    report.close("into vmap", inside, np.stack([plain] * 2), tolerance)
    shown = f"batch_shape {two.batch_shape}, expected {expected}"
    report.add("out of vmap", two.batch_shape == expected, shown)
    report.close("out of vmap, log_prob", two.log_prob(x), np.stack([plain] * 2), tolerance)


def _grad(report: _Report, d: Any, draw: np.ndarray) -> None:
    leaves, structure = jax.tree.flatten(d)
    floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    def total(values):
        rebuilt = list(leaves)
        for i, value in zip(floats, values, strict=True):
            rebuilt[i] = value
        return jnp.sum(jax.tree.unflatten(structure, rebuilt).log_prob(jnp.asarray(draw)))

    gradients = jax.grad(total)([leaves[i] for i in floats])
    lost = sum(int(np.sum(~np.isfinite(np.asarray(gradient)))) for gradient in gradients)
    report.add("grad", lost == 0, f"{lost} gradients of parameters not finite")
