import ctypes
import numpy as np

class Args(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in ("x", "wt", "scale", "bias", "y", "raw", "work", "tickets")] + [
        (n, ctypes.c_int) for n in ("n", "h", "w", "pixel", "p", "q", "o", "r", "s", "stride", "pad", "own", "relu", "rows")]

def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)

def round_tf32(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + np.uint32(0x1000)) & np.uint32(0xffffe000)).view(np.float32)

def _expo(x, emin):
    m, e = np.frexp(x.astype(np.float64))
    return np.where(x == 0, -10**6, np.maximum(e - 1, emin))

def block(a, b, c, bits=25, emin=-126, floor=-133):
    ea, eb, ec = _expo(a, emin), _expo(b, emin), _expo(c, -126)
    prod = a.astype(np.float64) * b.astype(np.float64)
    ep = np.where(prod == 0, -10**6, ea + eb)
    top = np.maximum(np.maximum(ep.max(-1), ec), floor)
    unit = top - bits
    total = np.trunc(np.ldexp(prod, -unit[..., None])).sum(-1) + np.trunc(np.ldexp(c.astype(np.float64), -unit))
    m, e = np.frexp(total)
    ulp = np.maximum(e - 1 + unit - 23, -149)
    r = np.ldexp(np.trunc(np.ldexp(total, unit - ulp)), ulp)
    return np.where(np.abs(r) >= 2.0**128, np.sign(r) * np.inf, r).astype(np.float32)

def model_dots(a, b, group):
    """a, b: [..., k] float32 operands as the tensor core sees them; R9's totals, class H."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    k = shape[-1]
    total = np.zeros(shape[:-1], np.float32)
    for s in range(0, k, 128):
        p = np.zeros(shape[:-1], np.float32)
        for g in range(s, min(s + 128, k), group):
            x, y = np.broadcast_arrays(a[..., g:g + group], b[..., g:g + group])
            p = block(x, y, p)
        total = total + p
    return total
