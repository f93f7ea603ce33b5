"""The networks, the arithmetics that they are computed in, the entropy model and the weights."""
