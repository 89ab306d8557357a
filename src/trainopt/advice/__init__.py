"""Which optimizer: what an objective is like, measured on some mini-batches, and what follows."""
