"""Trainable Optimizers in the tools people train with; each module needs its own tool only.

Most need nothing: the optimizers are torch optimizers. What is here makes them from a trainer's
arguments, and logs what they know.
"""
