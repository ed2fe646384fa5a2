"""Measurements. A package, so that another `benchmarks` that some interpreter has is not found."""
