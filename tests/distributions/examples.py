"""One small instance of every class: its maker, its parameters, a value of its support."""

from jaxprob import distributions as jd

UNIT = [0.2, 0.3, 0.5]

# class or maker -> good parameters, a good value
GOOD = {
    "Normal": (jd.Normal, {"loc": 0.0, "scale": 1.0}, 0.5),
    "StudentT": (jd.StudentT, {"df": 3.0, "loc": 0.0, "scale": 1.0}, 0.5),
    "Laplace": (jd.Laplace, {"loc": 0.0, "scale": 1.0}, 0.5),
    "Cauchy": (jd.Cauchy, {"loc": 0.0, "scale": 1.0}, 0.5),
    "Logistic": (jd.Logistic, {"loc": 0.0, "scale": 1.0}, 0.5),
    "Gumbel": (jd.Gumbel, {"loc": 0.0, "scale": 1.0}, 0.5),
    "LogNormal": (jd.LogNormal, {"loc": 0.0, "scale": 1.0}, 0.5),
    "Gamma": (jd.Gamma, {"concentration": 2.0, "rate": 1.0}, 0.5),
    "InverseGamma": (jd.InverseGamma, {"concentration": 2.0, "rate": 1.0}, 0.5),
    "Exponential": (jd.Exponential, {"rate": 1.0}, 0.5),
    "HalfNormal": (jd.HalfNormal, {"scale": 1.0}, 0.5),
    "Weibull": (jd.Weibull, {"scale": 1.0, "concentration": 2.0}, 0.5),
    "Beta": (jd.Beta, {"concentration1": 2.0, "concentration0": 3.0}, 0.5),
    "Uniform": (jd.Uniform, {"low": 0.0, "high": 1.0}, 0.5),
    "VonMises": (jd.VonMises, {"loc": 0.0, "concentration": 1.0}, 0.5),
    "Poisson": (jd.Poisson, {"rate": 1.0}, 2.0),
    "NegativeBinomial": (jd.NegativeBinomial, {"total_count": 2.0, "probs": 0.5}, 2.0),
    "Binomial": (jd.Binomial, {"total_count": 5.0, "probs": 0.5}, 2.0),
    "Geometric": (jd.Geometric, {"probs": 0.5}, 2.0),
    "Bernoulli": (jd.Bernoulli, {"probs": 0.5}, 1.0),
    "Categorical": (jd.Categorical, {"probs": UNIT}, 1.0),
    "OneHotCategorical": (jd.OneHotCategorical, {"probs": UNIT}, [0.0, 1.0, 0.0]),
    "Multinomial": (jd.Multinomial, {"total_count": 3.0, "probs": UNIT}, [1.0, 1.0, 1.0]),
    "RelaxedBernoulli": (jd.RelaxedBernoulli, {"temperature": 1.0, "probs": 0.5}, 0.5),
    "RelaxedOneHotCategorical": (
        jd.RelaxedOneHotCategorical, {"temperature": 1.0, "probs": UNIT}, UNIT),
    "Dirichlet": (jd.Dirichlet, {"concentration": [1.0, 2.0, 3.0]}, UNIT),
    "MultivariateNormal": (
        jd.MultivariateNormal, {"loc": [0.0, 0.0], "scale_tril": [[1.0, 0.0], [0.5, 1.0]]},
        [0.5, 0.5]),
    "MultivariateNormalDiag": (
        jd.MultivariateNormalDiag, {"loc": [0.0, 0.0], "scale_diag": [1.0, 1.0]}, [0.5, 0.5]),
    "LowRankMultivariateNormal": (
        jd.LowRankMultivariateNormal,
        {"loc": [0.0, 0.0], "cov_factor": [[1.0], [0.5]], "cov_diag": [1.0, 1.0]}, [0.5, 0.5]),
    "ZeroInflated": (
        lambda logits, rate: jd.ZeroInflated(jd.Poisson(rate), logits),
        {"logits": 0.0, "rate": 1.0}, 2.0),
    "Deterministic": (jd.Deterministic, {"loc": 1.0}, 1.0),
    "Quantized": (
        lambda loc, scale: jd.Quantized(jd.Normal(loc, scale), -3, 3),
        {"loc": 0.0, "scale": 1.0}, 1.0),
    "Independent": (
        lambda loc, scale: jd.Independent(jd.Normal(loc, scale), 1),
        {"loc": [0.0, 0.0], "scale": [1.0, 1.0]}, [0.5, 0.5]),
    "MixtureSameFamily": (
        lambda logits, rate: jd.MixtureSameFamily(jd.Categorical(logits=logits),
                                                  jd.Exponential(rate)),
        {"logits": [0.0, 0.0], "rate": [1.0, 2.0]}, 0.5),
    "Transformed": (
        lambda loc, scale: jd.Transformed(jd.Normal(loc, scale), jd.bijections.Exp()),
        {"loc": 0.0, "scale": 1.0}, 0.5),
}  # fmt: skip
