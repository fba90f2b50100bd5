"""The models of `jaxprob` again, in plain PyTorch: the other half of every parity proof."""
