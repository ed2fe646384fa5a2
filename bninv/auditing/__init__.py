"""Results that somebody else can compute again, bit for bit, and how to tell whether they did."""

from bninv.auditing.comparison import Audit, LayerChange, audit
from bninv.auditing.layers import LayerDigest
from bninv.auditing.recording import Record, record

__all__ = ["Audit", "LayerChange", "LayerDigest", "Record", "audit", "record"]
