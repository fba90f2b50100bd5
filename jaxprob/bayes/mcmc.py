"""Hamiltonian Monte Carlo: exact draws of the weights, many chains in one compiled program.

The samplers are BlackJAX's (extra `mcmc`); this module gives them the interface of the package:
a pytree in, draws of that pytree with a leading axis S out, and numbers that say whether to trust
them.

Source: Hoffman & Gelman, "The No-U-Turn Sampler" (JMLR 2014); Betancourt, "A conceptual
introduction to Hamiltonian Monte Carlo" (2017); Vehtari et al., "Rank-normalization, folding, and
localization" (2021) for the diagnostics.
"""

import dataclasses
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxprob.bayes.summary import summary
from jaxprob.requirements import require_count, require_in
from jaxprob.types import Array, Key, Params

__all__ = ["HMC", "NUTS", "Chains"]

TRUSTED_RHAT = 1.01  # Vehtari et al. (2021), section 4


class Chains(NamedTuple):
    """Draws of several chains.

    Attributes:
      by_chain: Pytree like the start, each leaf `[C, S, ...]`.
      log_density: Log-density of each draw `[C, S]`, in nats; None where batches only estimate it.
      acceptance: Mean acceptance probability along each trajectory `[C, S]`; None where nothing is
        refused.
      diverging: Whether the integrator lost the trajectory `[C, S]`; None as above.
      step_size: Step size of each chain `[C]` after the warm-up, or of each draw `[C, S]` where it
        follows a schedule.
    """

    by_chain: Params
    log_density: Array | None = None
    acceptance: Array | None = None
    diverging: Array | None = None
    step_size: Array | None = None

    def __repr__(self) -> str:
        chains, draws = next(iter(jax.tree.leaves(self.by_chain))).shape[:2]
        lost = None if self.diverging is None else jnp.sum(self.diverging)
        return summary(
            "Chains", chains=chains, draws=draws, by_chain=self.by_chain, diverging=lost,
            step_size=self.step_size,
        )  # fmt: skip

    @property
    def draws(self) -> Params:
        """All chains together: leaves `[C * S, ...]`, for `bayes.predict`."""
        return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), self.by_chain)

    def rhat(self) -> Params:
        """Rank-normalised split R-hat of each number, 1 at convergence; a pytree like the start."""
        return self._diagnose("rhat")

    def ess_bulk(self) -> Params:
        """Effective number of draws for the means."""
        return self._diagnose("ess_bulk")

    def ess_tail(self) -> Params:
        """Effective number of draws for the 5 % and 95 % quantiles."""
        return self._diagnose("ess_tail")

    def _diagnose(self, name: str) -> Params:
        diagnostic = getattr(_blackjax("diagnostics"), name)

        def of_leaf(leaf: Array) -> Array:
            flat = leaf.reshape((*leaf.shape[:2], -1))
            return jax.vmap(diagnostic, in_axes=-1)(flat).reshape(leaf.shape[2:])

        return jax.tree.map(of_leaf, self.by_chain)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Numbers of each leaf: mean, sd, rhat, ess_bulk and ess_tail, arrays of its shape."""
        columns = {
            "mean": jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), self.by_chain),
            "sd": jax.tree.map(lambda leaf: jnp.std(leaf, axis=(0, 1), ddof=1), self.by_chain),
            "rhat": self.rhat(),
            "ess_bulk": self.ess_bulk(),
            "ess_tail": self.ess_tail(),
        }
        rows: dict[str, dict[str, Any]] = {}
        for column, tree in columns.items():
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
                name = jax.tree_util.keystr(path, simple=True, separator="/") or "x"
                rows.setdefault(name, {})[column] = np.asarray(leaf)
        return rows

    def to_arviz(self) -> Any:
        """Returns the draws as ArviZ's data tree, for its plots (needs the extra `arviz`)."""
        try:
            arviz = importlib.import_module("arviz")
        except ImportError:
            raise ImportError("Chains.to_arviz needs ArviZ: pip install 'jaxprob[arviz]'") from None
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.by_chain)
        posterior = {
            jax.tree_util.keystr(path, simple=True, separator="/") or "x": np.asarray(leaf)
            for path, leaf in leaves
        }
        stats = {
            "lp": self.log_density,
            "acceptance_rate": self.acceptance,
            "diverging": self.diverging,
        }
        known = {name: np.asarray(value) for name, value in stats.items() if value is not None}
        groups = {"posterior": posterior, **({"sample_stats": known} if known else {})}
        if "posterior" in inspect.signature(arviz.from_dict).parameters:  # before version 1
            return arviz.from_dict(**groups)
        return arviz.from_dict(groups)

    def table(self) -> Table:
        """The worst number of each leaf, as a table to print."""
        table = Table("weights", "count", "worst R-hat", "least bulk ESS", "least tail ESS")
        for name, row in self.summary().items():
            table.add_row(
                name,
                str(row["mean"].size),
                f"{np.max(row['rhat']):.3f}",
                f"{np.min(row['ess_bulk']):.0f}",
                f"{np.min(row['ess_tail']):.0f}",
            )
        return table


@dataclasses.dataclass(frozen=True)
class _Hamiltonian:
    """What the two samplers share: the warm-up, the chains, the checks."""

    log_density: Callable[[Params], Array]
    num_warmup: int = 1000
    target_acceptance: float = 0.8
    dense_mass: bool = False
    jitter: float = 0.0

    def __post_init__(self):
        require_count(type(self).__name__, num_warmup=self.num_warmup)

    def _algorithm(self) -> tuple[str, dict[str, Any]]:
        """Name in BlackJAX and its fixed arguments."""
        raise NotImplementedError

    def run(self, key: Key, init: Params, num_draws: int = 1000) -> Chains:
        """Adapts step size and masses, then draws; all chains at once, one compiled program.

        Args:
          key: One key for all chains; chain c uses `jax.random.split(key, C)[c]`.
          init: Where the chains start: a pytree whose leaves lead with the chains C, as
            `jax.vmap(init)(keys)` makes it. Chains that start apart make R-hat worth its name. They
            run in JAX's default float; draws have the dtypes of `init`.
          num_draws: Draws S of each chain after the warm-up.

        Returns:
          The chains. A `UserWarning` says how many draws diverged, if any did.

        Raises:
          ValueError: Bad numbers, leaves without a common leading axis, or a start where the
            log-density is not finite.
          ImportError: Without BlackJAX, naming the extra.
        """
        require_count(type(self).__name__, num_draws=num_draws)
        require_in(
            type(self).__name__,
            "(0, 1)",
            "0.8 is the usual choice, 0.95 where draws diverge.",
            target_acceptance=self.target_acceptance,
        )
        require_in(type(self).__name__, "[0, 1)", jitter=self.jitter)
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(init)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError(
                f"{type(self).__name__}: every leaf of init needs the same leading axis C of "
                f"chains; got leading sizes {sorted(sizes)}. For one chain add the axis: "
                "jax.tree.map(lambda w: w[None], params)."
            )
        init = jax.tree.map(jnp.asarray, init)
        own, default = init, jnp.result_type(float)
        init = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, default)), init)
        start = np.asarray(jax.jit(jax.vmap(self.log_density))(init))
        if not np.isfinite(start).all():
            raise ValueError(
                f"{type(self).__name__}: the log-density is {start[~np.isfinite(start)][0]} at the "
                f"start of chain {int(np.argmin(np.isfinite(start)))}. Start inside the support, "
                "with finite weights."
            )
        _blackjax()
        keys = jax.random.split(key, len(start))
        chains = _run(self, keys, init, num_draws)
        draws = jax.tree.map(
            lambda leaf, start: leaf.astype(jnp.result_type(start, 0.0)), chains.by_chain, own
        )
        chains = chains._replace(by_chain=draws)
        lost = int(np.sum(chains.diverging))
        if lost:
            warnings.warn(
                f"{type(self).__name__}: {lost} of {chains.diverging.size} draws diverged, so "
                "parts of the posterior may be missing. Raise target_acceptance, or rescale.",
                stacklevel=2,
            )
        return chains

    def _chain(self, key: Key, position: Params, num_draws: int) -> Chains:
        blackjax = _blackjax()
        name, options = self._algorithm()
        algorithm = getattr(blackjax, name)

        def log_density(position: Params) -> Array:
            return jnp.asarray(self.log_density(position), jnp.result_type(float))

        adapt_key, draw_key = jax.random.split(key)
        no_info = _blackjax("adaptation.base").get_filter_adapt_info_fn()
        warmup = blackjax.window_adaptation(
            algorithm,
            log_density,
            is_mass_matrix_diagonal=not self.dense_mass,
            target_acceptance_rate=self.target_acceptance,
            adaptation_info_fn=no_info,
            **options,
        )
        (state, tuned), _ = warmup.run(adapt_key, position, self.num_warmup)

        def step(state, key):
            jitter_key, key = jax.random.split(key)
            stretch = 1.0 + self.jitter * jax.random.uniform(jitter_key, minval=-1.0)
            options = {**tuned, "step_size": stretch * tuned["step_size"]}
            state, info = algorithm(log_density, **options).step(key, state)
            kept = (state.position, state.logdensity, info.acceptance_rate, info.is_divergent)
            return state, kept

        _, kept = jax.lax.scan(step, state, jax.random.split(draw_key, num_draws))
        return Chains(*kept, step_size=jnp.asarray(tuned["step_size"]))


@dataclasses.dataclass(frozen=True)
class NUTS(_Hamiltonian):
    """The No-U-Turn sampler: HMC that chooses the length of each trajectory.

    Args:
      log_density: Pytree -> log-density in nats up to a constant, e.g. `bayes.log_joint(...)`.
      num_warmup: Steps that adapt the step size and the masses; their draws are not kept.
      target_acceptance: Acceptance probability that the step size aims at.
      dense_mass: Adapt a full mass matrix, for few and strongly correlated numbers.
      jitter: Each trajectory's step size varies by up to this share.
      max_doublings: Longest trajectory, 2^max_doublings steps.
    """

    max_doublings: int = 10

    def __post_init__(self):
        super().__post_init__()
        require_count("NUTS", max_doublings=self.max_doublings)

    def _algorithm(self) -> tuple[str, dict[str, Any]]:
        return "nuts", {"max_num_doublings": self.max_doublings}


@dataclasses.dataclass(frozen=True)
class HMC(_Hamiltonian):
    """Hamiltonian Monte Carlo with trajectories of a fixed number of steps.

    Args:
      log_density: Pytree -> log-density in nats up to a constant.
      num_warmup: Steps that adapt the step size and the masses; their draws are not kept.
      target_acceptance: Acceptance probability that the step size aims at.
      dense_mass: Adapt a full mass matrix.
      jitter: Each trajectory's step size varies by up to this share: where the length of all
        trajectories is a period of the motion, the chain would stand still (Neal 2011, 5.4.2.2).
      num_steps: Leapfrog steps of a trajectory.
    """

    jitter: float = 0.3
    num_steps: int = 10

    def __post_init__(self):
        super().__post_init__()
        require_count("HMC", num_steps=self.num_steps)

    def _algorithm(self) -> tuple[str, dict[str, Any]]:
        return "hmc", {"num_integration_steps": self.num_steps}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(sampler: _Hamiltonian, keys: Array, init: Params, num_draws: int) -> Chains:
    return jax.vmap(lambda key, start: sampler._chain(key, start, num_draws))(keys, init)


def _blackjax(module: str = "") -> Any:
    try:
        return importlib.import_module("blackjax" + (f".{module}" if module else ""))
    except ImportError:
        raise ImportError("HMC, NUTS, R-hat need BlackJAX: pip install 'jaxprob[mcmc]'") from None
