"""Pairs as users of each framework write them, equal or with one mistake: `build(mistake, seed)`.

Another hand wrote them than wrote `check_parity`, by its docstring alone. EQUAL names the ways of
writing that compute the same.
"""
