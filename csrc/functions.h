// R6: the elementwise functions, each one fixed expression of binary32 operations.
//
// docs/functions.md states every expression and the greatest error found over all 2^32 inputs
// (at most 2 ulp); tests/support/reference_functions.py repeats the expressions in NumPy. A change of any
// operation, coefficient or order of operations here changes bits: that means a new
// CONTRACT_VERSION.
//
// Nothing branches on a value: both sides of a `select` are evaluated, and an expression is written
// so that the side not chosen may hold any garbage. Polynomials are Horner chains of fma.
#pragma once

#include <limits>

#include "numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

namespace detail {

// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
constexpr float kRounder = 0x1.8p+23f;
constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 in two parts. The high one has 16 bits, so its product with an exponent is exact.
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A parameter of this type takes no part in the deduction of V, so it accepts a float as well.
template <typename V>
struct SameType {
  using Type = V;
};

template <typename V>
BNINV_INLINE V negative_abs(V x) {
  return from_bits(to_bits(x) | INT32_MIN);
}

// magnitude >= 0 with the sign of x.
template <typename V>
BNINV_INLINE V with_sign_of(V magnitude, V x) {
  return from_bits(to_bits(magnitude) | (to_bits(x) & INT32_MIN));
}

// max(x, floor) and min(x, ceiling) for a bound that is no zero; NaN stays.
template <typename V>
BNINV_INLINE V at_least(V x, float floor) {
  return select(x < V(floor), V(floor), x);
}
template <typename V>
BNINV_INLINE V at_most(V x, float ceiling) {
  return select(x > V(ceiling), V(ceiling), x);
}

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2.
template <typename V>
BNINV_INLINE V exp_tail(V r) {
  V q = fma(V(0x1.6b9b7cp-10f), r, V(0x1.1226e8p-7f));
  q = fma(q, r, V(0x1.5556f4p-5f));
  q = fma(q, r, V(0x1.5554b2p-3f));
  return fma(q, r, V(0x1.fffffep-2f));
}

// exp(z) = 2^n * (1 + fraction), with n the integer nearest to z / ln 2. Keeping the 1 apart lets
// callers round it in where it costs them least.
template <typename V>
struct Exponential {
  V fraction;
  V scale;  // 2^(n + kShift)
};

// For n + kShift from -126 to 127; n + kShift = -127 gives the scale +0.
template <int kShift, typename V>
BNINV_INLINE Exponential<V> exponential(V z) {
  constexpr float kBiasedRounder = kRounder + (127 + kShift);  // 127: the exponent field's bias
  V rounded = fma(z, V(kLog2E), V(kBiasedRounder));
  V n = rounded - V(kBiasedRounder);
  V r = fma(n, V(-kLn2Low), fma(n, V(-kLn2High), z));
  return {fma(r * r, exp_tail(r), r), from_bits(to_bits(rounded) << 23)};
}

// The same of z + z_low, with less error in the fraction: what rounding r loses is kept.
template <int kShift, typename V>
BNINV_INLINE Exponential<V> exponential(V z, V z_low) {
  constexpr float kBiasedRounder = kRounder + (127 + kShift);
  V rounded = fma(z, V(kLog2E), V(kBiasedRounder));
  V n = rounded - V(kBiasedRounder);
  V r_high = fma(n, V(-kLn2High), z);
  V r_low = fma(n, V(-kLn2Low), z_low);
  V r = r_high + r_low;
  V r_rest = (r_high - r) + r_low;
  return {r + fma(r * r, exp_tail(r), r_rest), from_bits(to_bits(rounded) << 23)};
}

// Exponentials that reach down to the subnormals carry this shift, so that their scale stays a
// normal number from n = 0 to n = -158 and is +0 at -159, where all results are zero.
constexpr int kTailShift = 32;
constexpr float kTailUnshift = 0x1p-32f;
// Arguments are kept above this. Here n is -159 and the fraction is negative, so x (1 + fraction)
// does not overflow, and times the scale it is -0, or NaN at -infinity.
constexpr float kLeastExponent = -110.25f;

// x / (1 + exp(-z)), where e is exp(-|z|), shifted, and `negative` is z < 0.
//
// For negative z that is y / (1 + t) with t = exp(z) and y = x t, computed as y - y q with
// q = t / (1 + t): an error of q then counts t times only. The rounding error of the denominator
// would count most of all where t is near 1; it changes the result by the factor 1 + q `rest`,
// which joins the fraction. The scale is applied last, so that nothing before it is subnormal.
template <typename V, typename Mask>
BNINV_INLINE V times_sigmoid(V x, Mask negative, Exponential<V> e) {
  V small = e.scale * V(kTailUnshift);
  V t = fma(small, e.fraction, small);
  V denominator = V(1.0f) + t;
  V quotient = select(negative, t, x) / denominator;
  V rest = t - (denominator - V(1.0f));
  V y = fma(x, fma(quotient, rest, e.fraction), x);
  return select(negative, (fma(-y, quotient, y) * e.scale) * V(kTailUnshift), quotient);
}

}  // namespace detail

// exp(x) = (2^a * (1 + r + r^2 q(r))) * 2^b with a + b = n: one factor alone could not reach both
// the subnormals and the last binade. Each of a and b is half of n, rounded down and up.
template <typename V>
BNINV_INLINE V exp(V x) {
  using namespace detail;
  // The exponents' bias comes in with the rounding, once for each of the two factors.
  constexpr float kBiasedRounder = kRounder + 2 * 127;
  x = at_least(at_most(x, 89.0f), -104.0f);
  V rounded = fma(x, V(kLog2E), V(kBiasedRounder));
  V n = rounded - V(kBiasedRounder);
  V r = fma(n, V(-kLn2Low), fma(n, V(-kLn2High), x));
  V p = fma(fma(exp_tail(r), r, V(1.0f)), r, V(1.0f));
  auto bits = to_bits(rounded);
  auto half = bits >> 1;
  V lower = from_bits(half << 23);
  V upper = from_bits((bits - half) << 23);
  return (p * lower) * upper;
}

// log(x) = k ln 2 + log(1 + f), x = 2^k (1 + f), 1 + f between sqrt(1/2) and sqrt(2).
template <typename V>
BNINV_INLINE V log(V x) {
  using namespace detail;
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  auto subnormal = x < V(0x1p-126f);
  V normal = select(subnormal, x * V(0x1p+23f), x);
  V least = select(subnormal, V(-23.0f), V(0.0f));
  // Without its sign the pattern cannot overflow here; a negative x is NaN in the end.
  auto bits = (to_bits(normal) & INT32_MAX) - kSqrtHalf;
  // The exponent, made a float by putting it into the low bits of a large one.
  V k = (V(from_bits((bits >> 23) + 0x4b400000)) - V(kRounder)) + least;
  V f = V(from_bits((bits & 0x007fffff) + kSqrtHalf)) - V(1.0f);
  V q = fma(V(-0x1.381392p-4f), f, V(0x1.087506p-3f));
  q = fma(q, f, V(-0x1.0f520ap-3f));
  q = fma(q, f, V(0x1.226c84p-3f));
  q = fma(q, f, V(-0x1.5423e8p-3f));
  q = fma(q, f, V(0x1.99a41cp-3f));
  q = fma(q, f, V(-0x1.000438p-2f));
  q = fma(q, f, V(0x1.55555p-2f));
  q = fma(q, f, V(-0x1.fffff8p-2f));
  V y = fma(k, V(kLn2High), fma(k, V(kLn2Low), fma(f * f, q, f)));
  y = select(x > V(0.0f), y, select(x == V(0.0f), V(-kInfinity), V(kNaN)));
  return select(x < V(kInfinity), y, x);
}

// tanh(|x|) = -m / (2 + m), m = exp(-2|x|) - 1. Both m and 2 + m are rounded once from the parts
// of the exponential; where n is 0 the m is its fraction itself, so small |x| keep their accuracy.
template <typename V>
BNINV_INLINE V tanh(V x) {
  using namespace detail;
  V z = at_least(V(negative_abs(x) * V(2.0f)), -20.0f);
  Exponential<V> e = exponential<0>(z);
  V m = fma(e.scale, e.fraction, e.scale - V(1.0f));
  V denominator = fma(e.scale, e.fraction, e.scale + V(1.0f));
  return with_sign_of(V(abs(m) / denominator), x);
}

// erf: x + x P(x^2) up to 7/8; beyond, 1 - exp(-a + a R(a)) with a = |x|.
template <typename V>
BNINV_INLINE V erf(V x) {
  using namespace detail;
  V square = x * x;
  V p = fma(V(-0x1.43f608p-11f), square, V(0x1.49755ap-8f));
  p = fma(p, square, V(-0x1.b6e386p-6f));
  p = fma(p, square, V(0x1.ce1fccp-4f));
  p = fma(p, square, V(-0x1.8127p-2f));
  p = fma(p, square, V(0x1.06eba6p-3f));
  V inner = fma(p, x, x);

  V a = at_most(abs(x), 4.0f);
  V z = fma(V(0x1.c35d92p-13f), a, V(-0x1.a6b994p-9f));
  z = fma(z, a, V(0x1.778f8p-6f));
  z = fma(z, a, V(-0x1.af5bbcp-4f));
  z = fma(z, a, V(-0x1.4577e8p-1f));
  z = fma(z, a, V(-0x1.07385ep-3f));
  z = fma(z, a, -a);
  Exponential<V> e = exponential<0>(z);
  V outer = fma(-e.scale, e.fraction, V(1.0f) - e.scale);
  return select(a < V(0.875f), inner, with_sign_of(outer, x));
}

// sigmoid(x) = 1 / (1 + exp(-x)): with t = exp(-|x|) and q = t / (1 + t) it is 1 - q, or t - t q
// for negative x.
template <typename V>
BNINV_INLINE V sigmoid(V x) {
  using namespace detail;
  V z = at_least(negative_abs(x), kLeastExponent);
  Exponential<V> e = exponential<kTailShift>(z);
  V small = e.scale * V(kTailUnshift);
  V t = fma(small, e.fraction, small);
  V q = t / (V(1.0f) + t);
  V y = select(x < V(0.0f), t, V(1.0f));
  return fma(-y, q, y);
}

// silu(x) = x / (1 + exp(-x)); NaN at -infinity, as the formula has it.
template <typename V>
BNINV_INLINE V silu(V x) {
  using namespace detail;
  V z = at_least(negative_abs(x), kLeastExponent);
  return times_sigmoid(x, x < V(0.0f), exponential<kTailShift>(z));
}

// mish(x) = x tanh(log(1 + exp(x))). With t = exp(-|x|) the tangent is 1/2 + h, times t for negative x:
// there h = (1 - t^2 / 2) / (2 + 2 t + t^2), else (1 + 2 t - 2 t^2) / (2 + 4 t + 4 t^2). x h joins x / 2,
// so that an error of h counts half. NaN at -infinity, as the formula has it.
template <typename V>
BNINV_INLINE V mish(V x) {
  using namespace detail;
  auto negative = x < V(0.0f);
  V z = at_least(negative_abs(x), kLeastExponent);
  Exponential<V> e = exponential<kTailShift>(z, V(0.0f));
  V small = e.scale * V(kTailUnshift);
  V t = fma(small, e.fraction, small);
  V numerator =
      fma(t * select(negative, V(-0.5f), V(2.0f)), select(negative, t, V(1.0f) - t), V(1.0f));
  V denominator =
      fma(t * select(negative, V(1.0f), V(4.0f)), t + select(negative, V(2.0f), V(1.0f)), V(2.0f));
  V h = numerator / denominator;
  V half = x * V(0.5f);
  V y = fma(x, fma(e.fraction, h + V(0.5f), h), half);
  return select(negative, (y * e.scale) * V(kTailUnshift), fma(x, h, half));
}

// gelu(x) = x Phi(x) with the normal distribution function Phi; NaN at -infinity.
//
// Up to |x| = 0.65 that is x (1/2 + x P(x^2)). Beyond, t = -|x| Phi(-|x|) is gelu for negative x,
// and x + t is gelu for positive ones. With v = -|x| / (|x| + 5/2),
//
//   t = exp(-x^2 / 2) v (1 + p(v + 7/16)) / 2,  p a polynomial.
//
// t exp(x^2 / 2) as a function of v levels off towards v = -1, so the rounding errors of v matter
// little as long as both places take the same v; v + 7/16 is exact from |x| = 0.7 on.
template <typename V>
BNINV_INLINE V gelu(V x) {
  using namespace detail;
  V square = x * x;
  V inner = fma(V(-0x1.1b5434p-10f), square, V(0x1.45b194p-7f));
  inner = fma(inner, square, V(-0x1.1053ep-4f));
  inner = fma(inner, square, V(0x1.98844ap-2f));
  inner = x * fma(inner, x, V(0.5f));

  V w = at_least(negative_abs(x), -14.8375f);
  // -x^2/2, and what its rounding lost.
  V half = w * V(-0.5f);
  V z = w * half;
  Exponential<V> e = exponential<kTailShift>(z, V(fma(w, half, -z)));
  V v = w / (V(2.5f) - w);
  V y = v + V(0.4375f);
  V p = fma(V(0x1.71e4eap-3f), y, V(-0x1.1a7b2cp-4f));
  p = fma(p, y, V(-0x1.f2444ep-3f));
  p = fma(p, y, V(0x1.d71c24p-3f));
  p = fma(p, y, V(0x1.aac5d4p-3f));
  p = fma(p, y, V(-0x1.e6398ep-2f));
  p = fma(p, y, V(-0x1.17fa32p-2f));
  p = fma(p, y, V(0x1.042686p+0f));
  p = fma(p, y, V(0x1.dd514p+0f));
  p = fma(p, y, V(0x1.0d37e2p-1f));
  // (1 + fraction) (1 + p) = 1 + c: c is rounded more finely than 1 + c would be.
  V c = fma(e.fraction, p + V(1.0f), p);
  V t = (fma(v, c, v) * e.scale) * V(0.5f * kTailUnshift);
  // x * 0 rather than 0: it is -0 for negative x, and NaN at -infinity.
  V outer = select(x > V(0.0f), x, x * V(0.0f)) + t;
  return select(w > V(-0.65f), inner, outer);
}

// gelu with PyTorch's tanh approximation: x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), since
// (1 + tanh(u)) / 2 = sigmoid(2 u). NaN at -infinity.
//
// 2 u = c |x| (x^2 + k) is kept as a sum of two numbers: a relative error of 2^-24 in it would
// become one of 100 * 2^-24 in the tail.
template <typename V>
BNINV_INLINE V gelu_tanh(V x) {
  using namespace detail;
  constexpr float kC = 0x1.2444f2p-4f, kCLow = 0x1.49b16ap-29f;  // 0.08943 sqrt(2/pi)
  constexpr float kK = 0x1.65d2p+4f, kKLow = 0x1.7b767cp-14f;    // 1 / 0.044715
  V w = at_least(negative_abs(x), -10.92f);
  V square = w * w;
  V square_low = fma(w, w, -square);
  V sum = square + V(kK);
  V sum_low = (square - (sum - V(kK))) + (square_low + V(kKLow));
  V factor = w * V(kC);
  V factor_low = fma(w, V(kCLow), fma(w, V(kC), -factor));
  V z = factor * sum;
  V z_low = fma(factor, sum_low, fma(factor_low, sum, fma(factor, sum, -z)));
  return times_sigmoid(x, x < V(0.0f), exponential<kTailShift>(z, z_low));
}

// The piecewise linear functions. A zero that relu and relu6 give is +0, whatever the sign of x.

template <typename V>
BNINV_INLINE V relu(V x) {
  return select(x <= V(0.0f), V(0.0f), x);
}

template <typename V>
BNINV_INLINE V relu6(V x) {
  return detail::at_most(relu(x), 6.0f);
}

template <typename V>
BNINV_INLINE V hardsigmoid(V x) {
  return relu6(V(x + V(3.0f))) / V(6.0f);
}

// x * (relu6(x + 3) / 6): dividing last would overflow. NaN at -infinity.
template <typename V>
BNINV_INLINE V hardswish(V x) {
  return x * hardsigmoid(x);
}

template <typename V>
BNINV_INLINE V leaky_relu(V x, typename detail::SameType<V>::Type slope) {
  return select(x > V(0.0f), x, x * slope);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
