"""Hyperparameters tuned by hypergradients."""
