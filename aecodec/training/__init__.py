"""Training one's own weights: data, network, loop and export."""
