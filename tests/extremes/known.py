"""How many rows are out of bounds, by law: in float32 and in float64.

The bar of 1 % of the rows of each method is missed by many of them. The numbers may only fall;
three rows of each law are left to the rounding of one processor or another. What is out is of these
kinds:

- The gradient of a tail that has underflowed is 0, where the right one is large or infinite.
- Divergences of members that hardly differ, whose digits are those of a difference of numbers near
  1: the error is one unit of rounding of 1. Divergences of scales 60 orders of magnitude apart.
- Beta tails, and with them StudentT's, NegativeBinomial's and Binomial's, at concentrations below
  .05: six digits in float64, since the integrand bends on the length 1 and falls on 1 / a.
- Gradients of cdfs of gamma and beta variables towards their concentrations in the far tails.
- Quantiles whose right value is 0 or infinite in the dtype, and that stop one step before.
- Gradients of 1e-20 and less beside numbers near 1, of angles above all.
- Bins of `Quantized` whose density overflows in float32: they alone give NaN, see `NAN`, with
  three rows of a mixture of normals whose scales are twenty orders of magnitude apart.
"""

__all__ = ["NAN", "OUT", "SLACK"]

SLACK = 3

OUT: dict[str, tuple[int, int]] = {
    "Bernoulli(logits)": (1, 1),
    "Bernoulli(probs)": (5, 5),
    "Beta": (92, 140),
    "Binomial(logits)": (41, 26),
    "Binomial(probs)": (11, 17),
    "Categorical(logits)": (11, 18),
    "Categorical(probs)": (32, 17),
    "Cauchy": (9, 0),
    "Exponential": (4, 4),
    "Gamma": (8, 22),
    "Geometric(logits)": (27, 12),
    "Geometric(probs)": (2, 2),
    "Gumbel": (18, 20),
    "HalfNormal": (6, 4),
    "InverseGamma": (46, 38),
    "Laplace": (1, 2),
    "LogNormal": (0, 1),
    "LowRankMultivariateNormal": (7, 6),
    "MixtureSameFamily(Normal)": (41, 2),
    "Multinomial(probs)": (15, 0),
    "NegativeBinomial(logits)": (99, 87),
    "NegativeBinomial(probs)": (16, 29),
    "Normal": (18, 0),
    "OneHotCategorical(logits)": (1, 2),
    "OneHotCategorical(probs)": (4, 4),
    "Poisson": (8, 16),
    "Quantized(Gumbel)": (41, 22),
    "Quantized(Logistic)": (6, 3),
    "Quantized(Logistic, 0, 255)": (10, 0),
    "Quantized(Normal)": (24, 1),
    "RelaxedBernoulli": (0, 1),
    "StudentT": (194, 176),
    "Transformed(Normal, Exp)": (4, 0),
    "VonMises": (45, 73),
    "Weibull": (28, 9),
    "ZeroInflated(Poisson)": (8, 35),
}

NAN: dict[str, tuple[int, int]] = {
    "Quantized(Normal)": (1, 0),
    "Quantized(Logistic)": (1, 0),
    "Quantized(Gumbel)": (19, 0),
    "Quantized(Logistic, 0, 255)": (10, 0),
    "MixtureSameFamily(Normal)": (3, 0),
}
