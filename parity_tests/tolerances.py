"""Every tolerance of the parity proofs, each with its reason; no other file holds one.

Errors are per tensor: `max|a - b| / max|b|`, since near-zero entries cancel and make element-wise
relative errors meaningless.
"""

MODELS = {
    # Float64 is the gate. A forward pass differs in the order of sums: measured 8e-15 at worst.
    # In float32 a median near 0 is 3e-6 of its tensor off.
    "value": {"float64": 1e-13, "float32": 5e-6},
    # A backward pass sums over the batch as well: measured 5e-16, in float32 9e-7.
    "gradient": {"float64": 1e-12, "float32": 5e-6},
    # 100 adaptive steps may amplify the last bit; measured 8e-16, in float32 5e-7.
    "training": {"float64": 1e-10, "float32": 5e-6},
}

ORACLES = {
    # Against SciPy in float64; both are good to a few ulp, their sums to a few more.
    "closed form": 1e-13,
    # XLA's ndtr: 1e-14 of the small tail.
    "tails": 1e-12,
    # Error bound that scipy.integrate.quad reports for these integrands.
    "quadrature": 1e-9,
    # cdf(quantile(q)) over q: bisection ends at neighbouring floats, the tails amplify an ulp of x
    # by about x^2.
    "inverse": 1e-11,
    # The promise of the interface.
    "float32 quantile": 1e-6,
    # Central differences with h = 1e-6: rounding 1e-16 / h and truncation h^2.
    "finite difference": 1e-8,
    # The trapezoidal rule of `Predictive`, for components of this width.
    "mutual information": 1e-7,
    # 20,000 draws of a sum over 12 rows: standard error about 0.01.
    "Monte Carlo nats": 0.05,
}

TORCH_DISTRIBUTIONS = {
    # Against torch.distributions in float64, which differences lgammas of about 10.
    "typical": 1e-12,
    # torch evaluates its Bessel functions by polynomials: 3e-8 of the density, 5e-8 of the rest.
    ("VonMises", "log_prob"): 2e-7,
    ("VonMises", "variance"): 2e-7,
    # Float32 against the truth: a few ulp of the parameters in a density that they enter.
    "float32 truth": 3e-6,
    # How far torch is off at least, where we say that it is wrong.
    "torch is wrong": 1e-4,
}

OPTIM = {
    # Constants beyond the end of a cycle: a rate that is a product of three, a momentum as given.
    "last rate": 1e-9,
    "last momentum": 1e-15,
    # Largest difference of any parameter (all near 1) at any of 1000 steps. Measured 0 to 2e-14;
    # above 1e-12 a formula differs, since rounding does not grow in these runs.
    "float64": 1e-12,
    # The same over 300 steps with float64 disabled. Measured 0 to 2e-6: the runs wander about as
    # far from the float64 run as from each other (torch's NAdam 1.1e-6, ours 1.2e-6). Stock
    # optax.adam with b2=.9999 is at 5e-5.
    "float32": 5e-6,
    # torch.optim.NAdam keeps its product of momenta in torch's default dtype: a float64 run under
    # the float32 default is 2e-9 off. It has to be above the gate, or the row proves nothing.
    "nadam under a float32 default": (1e-12, 1e-7),
    # Learning rates, over the largest. torch multiplies ratios where ours is a closed form: 1e-13
    # at worst, the cosine beyond T_max; in float32 a cosine is good to 2e-7 of the whole.
    "schedule": {"float64": 1e-11, "float32": 1e-6},
    # State after 50 steps, per tensor and relative to its largest entry.
    "state": 1e-13,
    # vmap over members against one member at a time: batched matmuls sum in another order.
    "vmap": 1e-13,
    # How far the obvious optax call ends up from torch: floors at about half of what was measured,
    # so that we learn of a change in optax. None: the stock call agrees, and must go on doing so.
    "stock": {
        "sgd": None,
        "sgd momentum": None,
        "sgd nesterov": None,
        "sgd dampening": 0.4,  # no such argument
        "sgd weight_decay": 0.3,  # decay after the momentum, not before
        "rprop": 0.3,  # optax 0.2.8 is one step late (PR 1725)
        "adam": None,
        "adam b2=.9999": None,
        "adam low betas": None,
        "adam L2": 0.4,  # adamw is not the L2 penalty
        "adam amsgrad": 0.3,  # maximum of the corrected moment
        "adamw": 0.05,  # weight_decay 1e-4 by default
        "adamw amsgrad": 0.3,
        "adamax": None,
        "adamax L2": 0.15,
        "nadam": 0.08,  # no warm-up of the momentum
        "nadam decoupled": 0.08,
        "radam": 3e-8,  # eps after the correction
        "rmsprop": 0.03,  # eps inside the root
        "rmsprop centered": 2e-3,
        "rmsprop schedule": 0.01,  # the rate inside the buffer
        "adagrad": 0.3,  # sum starts at .1
        "adadelta": None,
        "adadelta L2": None,
        "clip sgd": 5e-8,  # no 1e-6 beside the norm
        "clip adam L2": 0.4,  # decay before clipping
        "constant_lr": None,
        "step_lr": 1e-8,  # float32 inside, though float64 is enabled
        "multi_step_lr": None,
        "exponential_lr": 3e-6,  # float32 inside
        "linear_lr": 5e-8,  # float32 inside
        "polynomial_lr": 1e-8,  # float32 inside
        "cosine_annealing_lr": None,
        "cosine_annealing_lr past T_max": 0.4,  # stays down
        "cosine_annealing_warm_restarts": None,
        "one_cycle sgd": 0.3,  # constant momentum, and the peak one step late
        "one_cycle adam": 0.05,
        "reduce_lr_on_plateau": 5e-3,  # judges before the step
    },
    # The same in float32, where optax.adam forms 1 - b2^t by subtraction.
    "stock float32": {"adam": 2e-6, "adam b2=.9999": 2e-5, "radam": 2e-5, "exponential_lr": 1e-6},
}

RANDOM = {
    # torch_ref.random against jax.random. Keys, bits, uniform numbers, Booleans, integers, orders
    # are equal and have no tolerance. Here: error of an element over max(1, its size), since all
    # scales are 1. Float32 measured 0, but for tan (one unit in the last place, 1.2e-7); float64,
    # which lacks a fused multiply-add, 9e-16. With torch.erfinv a normal is off by 2e-5 and 3e-11.
    "formula": {"float32": 5e-7, "float64": 4e-15},
    # The least share of elements equal to the last bit. Measured 1.0 in float32 (XLA rounds once
    # where the processor can, and so do we), .925 to .997 in float64; XLA's tan is its own.
    "equal share": {"float32": 0.999, "float64": 0.9, "cauchy": 0.8},
    # Gamma, as "formula". XLA's reciprocal root, pow and exp differ from torch's in the last bit:
    # measured 6e-7 and 2e-15.
    "rejection": {"float32": 3e-6, "float64": 2e-14},
    # Share of elements for which rounding decided another acceptance. Measured 0 in 8e6 counts and
    # 0 in 6e6 gamma draws; the loops compare float32 logarithms, so it need not be 0 elsewhere.
    "flips": 1e-5,
    # Cholesky and QR, over the largest entry, up to 64 x 64: other libraries, other order of sums.
    # Measured 6e-6 and 1e-14.
    "linear algebra": {"float32": 3e-5, "float64": 1e-13},
    # Flax's first weights, over the largest. Measured 0 eagerly; under jit XLA multiplies two
    # constants of the formula first: one unit in the last place.
    "initial": {"float32": 3e-7, "float64": 4e-15},
}

TRANSFER = {
    # Outputs of random networks after a transfer, float64, over the largest output. Measured 4e-15;
    # the sums run in another order, and a norm of nearly equal values loses digits.
    "output": 1e-12,
}

NN = {
    # First weights: |log(std of ours / std of torch's)| in units of 1 / sqrt(size), which is at or
    # above its standard error for uniform and for normal draws. Measured 1.0 at worst of 15.
    "initial spread": 5.0,
}

SAME_SEED = {
    # A VAE trained 300 steps in each framework from one key, nothing copied. Parameters relative to
    # the largest entry of each tensor, losses relative to themselves.
    "parameters": 1e-10,
    "float32 loss": 1e-6,
}

DRAWS = {
    # Samplers by rejection, 3000 elements. In float32 the test of acceptance rounds, and about one
    # element in 1e5 takes another proposal; measured 0.
    "value": {"float64": 1e-12, "float32": 1e-5},
    "slope": {"float64": 1e-10, "float32": 1e-4},
    "flips": {"float64": 0, "float32": 3},
}
