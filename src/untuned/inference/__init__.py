"""What is inferred of a module from its passes: the size of its inputs, and its head."""
