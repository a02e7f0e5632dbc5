"""Regressions with many kinds of likelihoods: microseconds a step, beside NumPyro and pm.fit."""
