"""The bench: rate-distortion, speed, memory and multiply-accumulates, ours and the peers' in one run."""
