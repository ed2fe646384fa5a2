// Divisions whose quotient is an integer, and their remainders, as PyTorch defines them: IEEE operations
// and C's fmod, which is exact on every device, number by number.
#pragma once

#include "numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

// cpu/vec_binary64.h overloads it for vectors.
template <typename F, typename Real>
BNINV_INLINE Real each_lane(const F& f, Real x, Real y) {
  return f(x, y);
}

namespace detail {

#if defined(__CUDA_ARCH__)
#define BNINV_OF_C(name) ::name
#else
#define BNINV_OF_C(name) __builtin_##name
#endif
BNINV_INLINE float c_fmod(float x, float y) { return BNINV_OF_C(fmodf)(x, y); }
BNINV_INLINE double c_fmod(double x, double y) { return BNINV_OF_C(fmod)(x, y); }
BNINV_INLINE float c_floor(float x) { return BNINV_OF_C(floorf)(x); }
BNINV_INLINE double c_floor(double x) { return BNINV_OF_C(floor)(x); }
BNINV_INLINE float c_trunc(float x) { return BNINV_OF_C(truncf)(x); }
BNINV_INLINE double c_trunc(double x) { return BNINV_OF_C(trunc)(x); }
BNINV_INLINE float c_copysign(float x, float y) { return BNINV_OF_C(copysignf)(x, y); }
BNINV_INLINE double c_copysign(double x, double y) { return BNINV_OF_C(copysign)(x, y); }
#undef BNINV_OF_C

struct Fmod {
  template <typename Real>
  BNINV_INLINE Real operator()(Real x, Real y) const {
    return c_fmod(x, y);
  }
};

// With the divisor's sign.
struct Remainder {
  template <typename Real>
  BNINV_INLINE Real operator()(Real x, Real y) const {
    const Real rest = c_fmod(x, y);
    return rest != Real(0) && (y < Real(0)) != (rest < Real(0)) ? rest + y : rest;
  }
};

// The quotient of x less its remainder, which is nearly an integer, brought to that integer.
struct FloorDivide {
  template <typename Real>
  BNINV_INLINE Real operator()(Real x, Real y) const {
    const Real quotient = x / y;
    if (y == Real(0)) return quotient;
    const Real rest = c_fmod(x, y);
    Real whole = (x - rest) / y;
    if (rest != Real(0) && (y < Real(0)) != (rest < Real(0))) whole = whole - Real(1);
    if (whole == Real(0)) return c_copysign(Real(0), quotient);
    const Real below = c_floor(whole);
    return whole - below > Real(0.5) ? below + Real(1) : below;
  }
};

struct TruncDivide {
  template <typename Real>
  BNINV_INLINE Real operator()(Real x, Real y) const {
    return c_trunc(x / y);
  }
};

}  // namespace detail

template <typename V>
BNINV_INLINE V fmod(V x, V y) {
  return each_lane(detail::Fmod{}, x, y);
}

template <typename V>
BNINV_INLINE V remainder(V x, V y) {
  return each_lane(detail::Remainder{}, x, y);
}

template <typename V>
BNINV_INLINE V floor_divide(V x, V y) {
  return each_lane(detail::FloorDivide{}, x, y);
}

template <typename V>
BNINV_INLINE V trunc_divide(V x, V y) {
  return each_lane(detail::TruncDivide{}, x, y);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
