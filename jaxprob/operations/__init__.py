"""Operations of JAX computed in another way where XLA's own is slow; below all layers."""
