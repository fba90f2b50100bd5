"""What a traced function computes with."""

from collections.abc import Iterator

import jax

__all__ = ["equations"]


def equations(function, *args) -> Iterator:
    """Gives every equation of a function, those inside loops, branches and calls too."""

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            yield eqn
            for inner in jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr")
            ):
                if hasattr(inner, "jaxpr"):
                    yield from walk(inner.jaxpr)

    yield from walk(jax.make_jaxpr(function)(*args).jaxpr)
