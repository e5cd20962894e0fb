"""The average of the weights, which a module holds whenever it is not training."""
