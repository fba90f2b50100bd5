"""Proofs that `jaxprob` and `torch_ref` compute the same numbers."""
