"""The package's version, and that of the arithmetic which every result obeys (docs/numerics.md)."""

CONTRACT_VERSION = 1
__version__ = "0.1.0"
