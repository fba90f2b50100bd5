"""A VAE whose posterior is bent by a normalising flow.

    u ~ N(loc(h), diag scale(h)^2),   z = T(u; h),   h features of x
    log q(z | x) = log N(u; loc, scale) - log |det dT/du|

The flow is conditioned on h, so that each row bends its own posterior. A bound needs log q of its
own draws alone, which come with them: one pass of an inverse autoregressive flow. Other codes
(`diagnostics`, the doubly reparameterised gradient) need the inverse, D passes of it.

Twin: `torch_ref/vae/flow_posterior.py`. Source: Rezende & Mohamed, "Variational inference with
normalizing flows" (2015), sections 3-4 (planar); Kingma et al., "Improving variational inference
with inverse autoregressive flow" (2016), section 4 (iaf).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, Shaped

from jaxprob import flows
from jaxprob.requirements import require_choice
from jaxprob.types import AnyArray, Array, summary
from jaxprob.vae.dense import DenseVAE, require_rows
from jaxprob.vae.model import VAEOutput, in_dtype, reparameterize

__all__ = ["FLOWS", "FlowPosterior", "FlowPosteriorVAE"]

FLOWS = {
    "planar": flows.planar,
    "iaf": flows.inverse_autoregressive,
    "coupling": flows.coupling,
}
"""What `flow` may be, and the builder of each."""


class FlowPosterior(NamedTuple):
    """q(z | x); the flow itself stays in the model, whose methods give densities and draws.

    Attributes:
      base: Distribution of u, batch shape `[B]`, event shape `(L,)`.
      context: Features h that condition the flow `[B, H]`.
      log_prob: log q(z | x) `[*S, B]` of the draws made in the same pass; None from `encode`.
    """

    base: Any
    context: Array
    log_prob: Array | None = None

    def __repr__(self) -> str:
        return summary("FlowPosterior", **self._asdict())


class FlowPosteriorVAE(DenseVAE):
    """`DenseVAE` with a flow after its posterior. Before training the flow bends nothing.

    The KL has no closed form: `negative_elbo(model, analytic_kl=False)`. `code`, from which
    `reconstruct` and `diagnostics` start, is the image of the mean of u.

    Attributes:
      flow: "iaf", "planar" or "coupling", see `jaxprob.flows`.
      num_layers: Number of its layers; planar maps bend one direction each and want more.
      flow_hidden: Widths of the network in each layer.
    """

    flow: str = "iaf"
    num_layers: int = 4
    flow_hidden: Sequence[int] = (64,)

    def setup(self):
        """Makes the layers.

        Raises:
          ValueError: An unknown flow, or no layers.
        """
        require_choice("FlowPosteriorVAE", FLOWS, flow=self.flow)
        super().setup()
        build = FLOWS[self.flow]
        self.transform = build(
            self.latent_dim, self.num_layers, tuple(self.flow_hidden), self.activation
        )

    def encode(self, x: Shaped[AnyArray, "B *D"], train: bool = False) -> FlowPosterior:
        """Returns q(z | x) of rows `[B, D]`."""
        require_rows(type(self).__name__, x, self.features)
        context = self.encoder(x)
        return FlowPosterior(self.posterior(context), context)

    def infer(self, x: AnyArray, eps: AnyArray, train: bool = False) -> tuple[FlowPosterior, Array]:
        """Returns q(z | x), draws of it `[*S, B, L]`, and with q the log-density of these."""
        q = self.encode(x, train)
        u = reparameterize(q.base, eps)
        z, log_det = self.transform.forward(u, q.context)
        return q._replace(log_prob=q.base.log_prob(u) - log_det), z

    def code(self, x: Shaped[AnyArray, "B *D"]) -> Float[Array, "B L"]:
        """Returns the image of the mean of u, where the flow is straight the mean of z."""
        q = self.encode(x)
        return self.transform.forward(q.base.mean(), q.context)[0]

    def log_densities(
        self, q: FlowPosterior, z: Float[AnyArray, "*S B L"]
    ) -> tuple[Float[Array, "*S B 1"], Float[Array, "*S B 1"]]:
        """Returns log q(z | x), by the inverse of the flow, and log p(z)."""
        u, log_det = self.transform.inverse(z, q.context)
        return (q.base.log_prob(u) + log_det)[..., None], self._log_prior(q, z)

    def log_densities_of_draws(
        self, output: VAEOutput
    ) -> tuple[Float[Array, "*S B 1"], Float[Array, "*S B 1"]]:
        """Returns the same at the draws of `output`, whose log q is known."""
        return output.q.log_prob[..., None], self._log_prior(output.q, output.z)

    def kl(self, q: FlowPosterior) -> Float[Array, "B 1"]:
        """Has no closed form.

        Raises:
          NotImplementedError: Always.
        """
        raise NotImplementedError(
            "FlowPosteriorVAE: KL(q(z | x) || p(z)) has no closed form under a flow. Estimate it "
            "from the draws: negative_elbo(..., analytic_kl=False)."
        )

    def _log_prior(self, q: FlowPosterior, z: AnyArray) -> Array:
        return in_dtype(self.prior(), q.base).log_prob(z)[..., None]
