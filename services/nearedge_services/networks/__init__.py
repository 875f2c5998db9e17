"""Equivariant message passing on batches of periodic structures, and the weights files of every network."""
