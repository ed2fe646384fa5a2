// R6, continued: sinh and cosh, in binary64 for both formats.
#pragma once

#include "binary64.h"
#include "functions.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace detail {

// e^x / 8 for x >= 0, in two parts: finite wherever e^x / 2 is.
template <typename D>
BNINV_INLINE Pair<D> eighth_of_exp(D x) {
  constexpr double kInfiniteFrom = 711.0;
  Exponential<D> e = exponential<-3>(at_most(x, kInfiniteFrom), D(0.0));
  D high = fma(e.scale, e.fraction, e.scale);
  return {high, fma(e.scale, e.fraction, e.scale - high)};
}

// x + x^3 P(x^2) up to 1; beyond, from e^x and its reciprocal.
struct Sinh {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    D square = x * x;
    D inner = fma(square * x,
                  polynomial(square, 0x1.b412579180c3cp-41, 0x1.611cb2cbad2e9p-33,
                             0x1.ae6460fbb232dp-26, 0x1.71de3a4e14331p-19, 0x1.a01a01a01ee7ap-13,
                             0x1.11111111110fdp-7, 0x1.5555555555555p-3),
                  x);
    D magnitude = abs(x);
    Pair<D> e = eighth_of_exp(magnitude);
    D outer = (e.high + (e.low - D(0x1p-6) / e.high)) * D(4.0);
    return select(magnitude < D(1.0), select(x == D(0.0), x, inner), with_sign_of(outer, x));
  }
};

struct Cosh {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    Pair<D> e = eighth_of_exp(abs(x));
    return (e.high + (e.low + D(0x1p-6) / e.high)) * D(4.0);
  }
};

}  // namespace detail

template <typename V>
BNINV_INLINE V sinh(V x) {
  return in_binary64(detail::Sinh{}, x);
}

template <typename V>
BNINV_INLINE V cosh(V x) {
  return in_binary64(detail::Cosh{}, x);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
