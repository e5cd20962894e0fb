"""Optimizers made from text: those of Untuned, and those of others to compare with."""
