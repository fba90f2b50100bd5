"""Every posterior on one network and one set of data: a panel each, and a table.

Ten tanh units predict the mean and the noise of the motorcycle impact data (133 rows). The right
part of the time axis holds no data: watch there what each posterior knows about its own ignorance.

    python examples/bnn_vs_ensemble.py          # five minutes; --only takes some of them
"""

import argparse
import pathlib
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxprob import bayes, datasets, heads, metrics, optim, plot, training
from jaxprob.nn import MLP
from jaxprob.objectives import GaussianPrior, map_loss

PRIOR = GaussianPrior(2.0)  # in standard units a function this steep needs weights of 3 or so
DRAWS, MEMBERS, CHAINS, STEP_SIZE = 200, 20, 4, 3e-5


class Fitter:
    """The model, the data, and one way to train what every posterior needs."""

    def __init__(self, train: dict, steps: int, key: jax.Array):
        self.train, self.steps, self.key = train, steps, key
        self.example, self.rows = train["x"][:1], len(train["x"])
        self.model = nn.Sequential([MLP((10,), nn.tanh), heads.NormalHead()])

    def fit(self, loss_fn, params, optimizer=None, many=False):
        schedule = optim.schedules.cosine_annealing_lr(0.02, self.steps)
        run = training.fit_ensemble if many else training.fit
        options = {"optimizer": optimizer or optim.adam(schedule), "progress": False}
        options |= {"steps": self.steps, "batch_size": 128, "key": self.key}
        return run(loss_fn, params, self.train, **options)

    def starts(self):
        keys = jax.random.split(self.key, CHAINS)
        return jax.vmap(lambda key: self.model.init(key, self.example)["params"])(keys)

    def at_map(self):
        start = jax.tree.map(lambda w: w[0], self.starts())
        return self.fit(map_loss(self.model, PRIOR, self.rows), start).params

    def variational(self, covariance):
        q = bayes.GaussianPosterior(self.model, self.example, covariance, PRIOR)
        loss_fn = bayes.negative_elbo(q, self.rows, num_samples=8)
        return self.model, q.sample(self.fit(loss_fn, q.init(self.key)).params, self.key, DRAWS)

    def ensemble(self):
        e = bayes.DeepEnsemble(self.model, self.example, MEMBERS)
        loss_fn = e.loss(prior=PRIOR, num_data=self.rows)
        return self.model, e.sample(self.fit(loss_fn, e.init(self.key), many=True).params)

    def dropout(self):
        dropout = nn.Dropout(0.05, deterministic=True)
        model = nn.Sequential([MLP((50,), nn.tanh), dropout, heads.NormalHead()])
        mc = bayes.MCDropout(model, self.example)
        params = self.fit(mc.loss(PRIOR, self.rows), mc.init(self.key)).params
        return mc.model, mc.sample(params, self.key, DRAWS)

    def swag(self):
        swag = bayes.SWAG(rank=20)
        optimizer = swag.collect(optim.sgd(3e-3, momentum=0.9), self.steps // 2, 10)
        loss_fn = map_loss(self.model, PRIOR, self.rows)
        state = self.fit(loss_fn, self.at_map(), optimizer).state.opt_state
        return self.model, swag.sample(swag.state_of(state), self.key, DRAWS)

    def laplace(self, structure):
        laplace = bayes.Laplace(self.model, self.example, structure, PRIOR)
        state = laplace.fit(self.at_map(), self.train)
        return laplace.linearized(state), laplace.sample(state, self.key, DRAWS)

    def sghmc(self):
        density = bayes.minibatch_log_joint(self.model, PRIOR, self.rows)
        half, sampler = 5 * self.steps, bayes.SGHMC(density, STEP_SIZE)
        keep = {"num_warmup": half, "thin": max(1, half // 50)}
        chains = sampler.run(self.key, self.starts(), self.train, 2 * half, 64, **keep)
        return self.model, chains.draws

    def nuts(self):
        draws = max(10, self.steps // 16)
        nuts = bayes.NUTS(bayes.log_joint(self.model, PRIOR, self.train), num_warmup=2 * draws)
        chains = nuts.run(self.key, self.starts(), draws)
        return self.model, jax.tree.map(lambda w: w[:: max(1, len(w) // DRAWS)], chains.draws)


POSTERIORS = {
    "mean field": lambda f: f.variational("diagonal"),
    "low rank": lambda f: f.variational("low_rank"),
    "covariance by layer": lambda f: f.variational("layer"),
    "full covariance": lambda f: f.variational("full"),
    "Laplace, kron": lambda f: f.laplace("kron"),
    "Laplace, full": lambda f: f.laplace("full"),
    "ensemble": Fitter.ensemble,
    "MC dropout": Fitter.dropout,
    "SWAG": Fitter.swag,
    "SGHMC": Fitter.sghmc,
    "NUTS": Fitter.nuts,
}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--steps", type=int, default=4000, help="optimisation steps of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=POSTERIORS, default=list(POSTERIORS))
    parser.add_argument("--out", default="output/bnn_vs_ensemble.png", help="where to draw")
    args = parser.parse_args()
    data, key = datasets.motorcycle(), jax.random.key(args.seed)
    x, y = (jnp.asarray((a - a.mean()) / a.std(), jnp.float32) for a in (data.x, data.y))
    order = jax.random.permutation(key, len(x))
    test, train = ({"x": x[rows], "y": y[rows]} for rows in (order[:27], order[27:]))
    grid = jnp.linspace(x.min() - 0.3, x.max() + 1.2, 200)[:, None]
    columns = min(4, len(args.only))
    lines = -(-len(args.only) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    table = Table("posterior", "NLL (nats)", "CRPS", "90 % covers", "epistemic beyond", "seconds")
    for ax, name in zip(panels, args.only, strict=False):
        begin = time.perf_counter()
        model, draws = POSTERIORS[name](Fitter(train, args.steps, key))
        predictive, beyond = (bayes.predict(model, draws, at) for at in (test["x"], grid))
        table.add_row(
            name,
            f"{float(metrics.nll(predictive, test['y'])):.3f}",
            f"{float(metrics.crps(predictive, test['y'])):.3f}",
            f"{100 * float(metrics.coverage(predictive, test['y'], 0.9)):.0f} %",
            f"{float(beyond.epistemic[-1, 0]) ** 0.5:.2f}",
            f"{time.perf_counter() - begin:.0f}",
        )
        plot.predictive_bands(beyond, grid, data=(x, y), ax=ax)[0].set(title=name, ylim=(-4, 4))
        ax.get_legend().set_visible(ax is panels[0])
    for ax in panels[len(args.only) :]:
        ax.set_axis_off()
    Console().print(table)
    pathlib.Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)
    print("picture:", args.out)


if __name__ == "__main__":
    main()
