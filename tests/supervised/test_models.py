"""The four supervised models: what they return and what they learn."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from jaxprob import objectives, optim, supervised, training

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
MODELS = {
    "GaussianRegressor": (supervised.GaussianRegressor((4,), 2), (2,)),
    "BernoulliClassifier": (supervised.BernoulliClassifier((4,), 2), (2,)),
    "CategoricalClassifier": (supervised.CategoricalClassifier(4, (4,)), ()),
    "MixtureDensityNetwork": (supervised.MixtureDensityNetwork((4,), 3, 2), (2,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_backbone_and_a_head(name):
    model, event_shape = MODELS[name]
    params = model.init(jax.random.key(0), X)["params"]
    assert set(params) == {"backbone", "head"}
    prediction = model.apply({"params": params}, X)
    assert prediction.batch_shape == (6,)
    assert prediction.event_shape == event_shape
    y = prediction.sample(seed=jax.random.key(1))
    assert prediction.log_prob(y).shape == (6,)


def test_without_hidden_layers_it_is_multinomial_regression():
    """With the Gaussian prior of scikit-learn's penalty: the same coefficients."""
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = supervised.CategoricalClassifier(3, (), nn.tanh)
    # C = 1 means |w|^2 / 2 beside the sum of the losses: the prior N(0, 1) on the kernel
    loss = objectives.map_loss(
        model,
        objectives.GaussianPrior(1.0),
        len(x),
        select=lambda path: path.endswith("kernel"),
    )
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x[:1])["params"])
    fitted = training.fit(
        loss,
        jax.tree.map(lambda w: w.astype(float), params),
        {"x": x, "y": y},
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(0.1, 1500)),
        steps=1500,
        batch_size=len(x),
        key=jax.random.key(0),
        progress=False,
    )
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, y)
    found = np.asarray(fitted.params["head"]["out"]["kernel"]).T
    np.testing.assert_allclose(found, oracle.coef_, atol=2e-4)
