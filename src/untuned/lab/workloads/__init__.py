"""Networks with data, loss, budget and metric, by name."""
