"""Minibatches: steps a second by rows, beside NumPyro, and from Parquet files."""
