"""Benchmarks of pymc_svi beside its neighbours; see README.md."""
