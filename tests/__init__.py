"""Tests and proofs. A package, so that another `tests` that some interpreter has is not found."""
