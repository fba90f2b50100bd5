"""How many rows are out of bounds, by law and dtype; the bar of 1 % is missed where more are listed.

The numbers may only fall. What stays out is of these kinds:

- The gradient of a tail that has underflowed is 0, where the right one is large or infinite.
- Divergences of members that hardly differ, whose digits are those of a difference of numbers near
  1: the error is one unit of rounding of 1. Divergences of scales 60 orders of magnitude apart.
- Beta tails, and with them StudentT's, NegativeBinomial's and Binomial's, at concentrations below .05:
  six digits in float64, since the integrand bends on the length 1 and falls on the length 1 / a.
- Gradients of cdfs of gamma and beta variables towards their concentrations in the far tails.
- Quantiles whose right value is 0 or infinite in the dtype, and that stop one step before.
- Angles at concentrations of 1e4 and more, near the far side.
"""

__all__ = ["OUT"]

OUT: dict[tuple[str, str], int] = {}
