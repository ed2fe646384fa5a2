// R6, continued: exp2, expm1, log1p, log2, log10, and softplus, logsigmoid and elu, which are made of
// the same parts. As in functions.h, no function branches on a value.
#pragma once

#include "functions.h"

namespace bninv {
namespace BNINV_LEVEL {

// 2^x: n is the integer nearest to x, and the rest of it, times ln 2, an argument of exp.
template <typename V>
BNINV_INLINE V exp2(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  constexpr auto kRounder = kBiasedRounder<V, F::kBias>;
  x = at_least(at_most(x, F::kGreatestExp2), F::kLeastExp2);
  V rounded = x + V(kRounder);
  V r = (x - (rounded - V(kRounder))) * V(F::kLn2);
  V p = fma(fma(exp_tail(r), r, V(1.0f)), r, V(1.0f));
  auto bits = to_bits(rounded);
  auto half = bits >> 1;
  V lower = from_bits(half << F::kFraction);
  V upper = from_bits((bits - half) << F::kFraction);
  return (p * lower) * upper;
}

// e^x - 1, from half of the exponential and half of 1: twice as much could be infinite too early. Where
// n is 0 it is the fraction itself, subnormal ones too.
template <typename V>
BNINV_INLINE V expm1(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V z = at_least(at_most(x, F::kGreatestExp), F::kExpm1IsMinusOne);
  Exponential<V> e = exponential<-1>(z, V(0.0f));
  V m = fma(e.scale, e.fraction, e.scale - V(0.5f)) * V(2.0f);
  m = select(e.scale == V(0.5f), e.fraction, m);
  return with_sign_of(abs(m), x);
}

namespace detail {

// log(u + rest), with a rest too small to be added to u.
template <typename V>
BNINV_INLINE V log_with_rest(V u, V rest) {
  using F = FormatOf<V>;
  Logarithm<V> l = exponent_and_rest(u);
  V small = fma(l.f * l.f, log_tail(l.f), rest / u);
  return fma(l.k, V(F::kLn2High), fma(l.k, V(F::kLn2Low), l.f + small));
}

// log(1 + e^-|x|): what softplus and logsigmoid add.
template <typename V>
BNINV_INLINE V log1p_exp(V x) {
  using F = FormatOf<V>;
  V z = at_least(negative_abs(x), F::kLeastExponent);
  Exponential<V> e = exponential<F::kTailShift>(z, V(0.0f));
  V scale = e.scale * V(F::kTailUnshift);
  V t = fma(scale, e.fraction, scale);
  V t_low = fma(scale, e.fraction, scale - t);
  V u = V(1.0f) + t;
  return log_with_rest(u, V((t - (u - V(1.0f))) + t_low));
}

}  // namespace detail

// log(1 + x) = log(u) + (what rounding u = 1 + x lost) / u.
template <typename V>
BNINV_INLINE V log1p(V x) {
  using namespace detail;
  V u = V(1.0f) + x;
  V rest = select(x > V(1.0f), V(1.0f) - (u - x), x - (u - V(1.0f)));
  V y = with_sign_of(abs(log_with_rest(u, rest)), x);
  y = select(u > V(0.0f), y, select(u == V(0.0f), V(-kInfinity), V(kNaN)));
  return select(x < V(kInfinity), y, x);
}

// log2(x) = k + log(1 + f) log2(e), the last factor in two parts; exact for powers of two.
template <typename V>
BNINV_INLINE V log2(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  Logarithm<V> l = exponent_and_rest(x);
  V t = fma(l.f * l.f, log_tail(l.f), l.f);
  return of_positive(x, V(fma(t, V(F::kLog2E), fma(t, V(F::kLog2ELow), l.k))));
}

// log10(x) = k log10(2) + log(1 + f) log10(e), both factors in two parts.
template <typename V>
BNINV_INLINE V log10(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  Logarithm<V> l = exponent_and_rest(x);
  V t = fma(l.f * l.f, log_tail(l.f), l.f);
  V rest = fma(t, V(F::kLog10E), t * V(F::kLog10ELow));
  return of_positive(x, V(fma(l.k, V(F::kLog10Of2High), fma(l.k, V(F::kLog10Of2Low), rest))));
}

// log(1 + e^z) / beta with z = beta x, and x itself where z is above the threshold.
template <typename V>
BNINV_INLINE V softplus(V x, V beta, V threshold) {
  using namespace detail;
  V z = x * beta;
  V y = (select(z > V(0.0f), z, V(0.0f)) + log1p_exp(z)) / beta;
  return select(z > threshold, x, y);
}

// log(sigmoid(x)) = -(max(-x, 0) + log(1 + e^-|x|)).
template <typename V>
BNINV_INLINE V logsigmoid(V x) {
  using namespace detail;
  return -(select(x < V(0.0f), -x, V(0.0f)) + log1p_exp(x));
}

// PyTorch's elu, selu and celu: of what is not positive (e^(x input_scale) - 1) times a negative scale.
template <typename V>
BNINV_INLINE V elu(V x, V scale, V negative_scale, V input_scale) {
  return select(x > V(0.0f), x * scale, expm1(V(x * input_scale)) * negative_scale);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
