"""How updates run on many tensors."""
