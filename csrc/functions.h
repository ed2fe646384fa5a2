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

#include "format.h"

namespace bninv {
namespace BNINV_LEVEL {

namespace detail {

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2.
template <typename V>
BNINV_INLINE V exp_tail(V r) {
  if constexpr (kIsBinary64<V>)
    return polynomial(r, 0x1.1f25184decb69p-29, 0x1.af5d23d2bd50ep-26, 0x1.27e5053cf20fap-22,
                      0x1.71ddf9342cd10p-19, 0x1.a01a0198e57f7p-16, 0x1.a01a01af98f42p-13,
                      0x1.6c16c16c1762bp-10, 0x1.111111110f71cp-7, 0x1.5555555555558p-5,
                      0x1.5555555555559p-3, 0x1p-1);
  else
    return polynomial(r, 0x1.6b9b7cp-10f, 0x1.1226e8p-7f, 0x1.5556f4p-5f, 0x1.5554b2p-3f,
                      0x1.fffffep-2f);
}

// exp(z) = 2^n * (1 + fraction), with n the integer nearest to z / ln 2. Keeping the 1 apart lets
// callers round it in where it costs them least.
template <typename V>
struct Exponential {
  V fraction;
  V scale;  // 2^(n + kShift)
};

// The number that n is added to, in its low bits: shifted by kFraction, those are 2^(n + kShift).
template <typename V, int kShift>
inline constexpr Scalar<V> kBiasedRounder = FormatOf<V>::kRounder + (FormatOf<V>::kBias + kShift);

// For n + kShift from 1 - kBias to kBias; n + kShift = -kBias gives the scale +0.
template <int kShift, typename V>
BNINV_INLINE Exponential<V> exponential(V z) {
  using F = FormatOf<V>;
  constexpr auto kRounder = kBiasedRounder<V, kShift>;
  V rounded = fma(z, V(F::kLog2E), V(kRounder));
  V n = rounded - V(kRounder);
  V r = fma(n, V(-F::kLn2Low), fma(n, V(-F::kLn2High), z));
  return {fma(r * r, exp_tail(r), r), from_bits(to_bits(rounded) << F::kFraction)};
}

// The same of z + z_low, with less error in the fraction: what rounding r loses is kept.
template <int kShift, typename V>
BNINV_INLINE Exponential<V> exponential(V z, V z_low) {
  using F = FormatOf<V>;
  constexpr auto kRounder = kBiasedRounder<V, kShift>;
  V rounded = fma(z, V(F::kLog2E), V(kRounder));
  V n = rounded - V(kRounder);
  V r_high = fma(n, V(-F::kLn2High), z);
  V r_low = fma(n, V(-F::kLn2Low), z_low);
  V r = r_high + r_low;
  V r_rest = (r_high - r) + r_low;
  return {r + fma(r * r, exp_tail(r), r_rest), from_bits(to_bits(rounded) << F::kFraction)};
}

// x / (1 + exp(-z)), where e is exp(-|z|), shifted, and `negative` is z < 0.
//
// For negative z that is y / (1 + t) with t = exp(z) and y = x t, computed as y - y q with
// q = t / (1 + t): an error of q then counts t times only. The rounding error of the denominator
// would count most of all where t is near 1; it changes the result by the factor 1 + q `rest`,
// which joins the fraction. The scale is applied last, so that nothing before it is subnormal.
template <typename V, typename Mask>
BNINV_INLINE V times_sigmoid(V x, Mask negative, Exponential<V> e) {
  using F = FormatOf<V>;
  V small = e.scale * V(F::kTailUnshift);
  V t = fma(small, e.fraction, small);
  V denominator = V(1.0f) + t;
  V quotient = select(negative, t, x) / denominator;
  V rest = t - (denominator - V(1.0f));
  V y = fma(x, fma(quotient, rest, e.fraction), x);
  return select(negative, (fma(-y, quotient, y) * e.scale) * V(F::kTailUnshift), quotient);
}

}  // namespace detail

// exp(x) = (2^a * (1 + r + r^2 q(r))) * 2^b with a + b = n: one factor alone could not reach both
// the subnormals and the last binade. Each of a and b is half of n, rounded down and up.
template <typename V>
BNINV_INLINE V exp(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  // The exponents' bias comes in with the rounding, once for each of the two factors.
  constexpr auto kRounder = kBiasedRounder<V, F::kBias>;
  x = at_least(at_most(x, F::kGreatestExp), F::kLeastExp);
  V rounded = fma(x, V(F::kLog2E), V(kRounder));
  V n = rounded - V(kRounder);
  V r = fma(n, V(-F::kLn2Low), fma(n, V(-F::kLn2High), x));
  V p = fma(fma(exp_tail(r), r, V(1.0f)), r, V(1.0f));
  auto bits = to_bits(rounded);
  auto half = bits >> 1;
  V lower = from_bits(half << F::kFraction);
  V upper = from_bits((bits - half) << F::kFraction);
  return (p * lower) * upper;
}

namespace detail {

// (log(1 + f) - f) / f^2 for 1 + f between sqrt(1/2) and sqrt(2).
template <typename V>
BNINV_INLINE V log_tail(V f) {
  if constexpr (kIsBinary64<V>)
    return polynomial(f, -0x1.d950a51f44b06p-6, 0x1.03d54a18d837cp-4, -0x1.067fa5955ea3dp-4,
                      0x1.ab840b5809ffep-5, -0x1.acd651daa40a9p-5, 0x1.de35c05f91429p-5,
                      -0x1.0181ffbee0036p-4, 0x1.11684e341c939p-4, -0x1.2478b7dfbecd5p-4,
                      0x1.3b0c41c748d1ep-4, -0x1.55565805c144dp-4, 0x1.745d72f7afe15p-4,
                      -0x1.9999939f58417p-4, 0x1.c71c6f34704fcp-4, -0x1.00000009990edp-3,
                      0x1.24924929b7284p-3, -0x1.55555555471f3p-3, 0x1.999999998f94cp-3,
                      -0x1.0000000000034p-2, 0x1.555555555558bp-2, -0x1p-1);
  else
    return polynomial(f, -0x1.381392p-4f, 0x1.087506p-3f, -0x1.0f520ap-3f, 0x1.226c84p-3f,
                      -0x1.5423e8p-3f, 0x1.99a41cp-3f, -0x1.000438p-2f, 0x1.55555p-2f,
                      -0x1.fffff8p-2f);
}

// u = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), for positive u; else anything.
template <typename V>
struct Logarithm {
  V k, f;
};

template <typename V>
BNINV_INLINE Logarithm<V> exponent_and_rest(V u) {
  using F = FormatOf<V>;
  auto subnormal = u < V(F::kLeastNormal);
  V normal = select(subnormal, u * V(F::kFromSubnormal), u);
  V least = select(subnormal, V(-F::kFromSubnormalExponent), V(0.0f));
  // Without its sign the pattern cannot overflow here; a negative u is NaN in the end.
  auto bits = (to_bits(normal) & F::kMagnitude) - F::kSqrtHalfBits;
  // The exponent, made a number by putting it into the low bits of a large one.
  V k = (V(from_bits((bits >> F::kFraction) + F::kRounderBits)) - V(F::kRounder)) + least;
  return {k, V(from_bits((bits & F::kFractionMask) + F::kSqrtHalfBits)) - V(1.0f)};
}

// log(x)'s results where x is not a positive number.
template <typename V>
BNINV_INLINE V of_positive(V x, V y) {
  y = select(x > V(0.0f), y, select(x == V(0.0f), V(-kInfinity), V(kNaN)));
  return select(x < V(kInfinity), y, x);
}

}  // namespace detail

// log(x) = k ln 2 + log(1 + f), x = 2^k (1 + f).
template <typename V>
BNINV_INLINE V log(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  Logarithm<V> l = exponent_and_rest(x);
  V t = fma(l.f * l.f, log_tail(l.f), l.f);
  return of_positive(x, V(fma(l.k, V(F::kLn2High), fma(l.k, V(F::kLn2Low), t))));
}

// tanh(|x|) = -m / (2 + m), m = exp(-2|x|) - 1. Both m and 2 + m are rounded once from the parts
// of the exponential; where n is 0 the m is its fraction itself, so small |x| keep their accuracy.
template <typename V>
BNINV_INLINE V tanh(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V z = at_least(V(negative_abs(x) * V(2.0f)), F::kTanhIsOne);
  // Without its low part binary64 would exceed 2 ulp.
  Exponential<V> e;
  if constexpr (kIsBinary64<V>)
    e = exponential<0>(z, V(0.0));
  else
    e = exponential<0>(z);
  V m = fma(e.scale, e.fraction, e.scale - V(1.0f));
  V denominator = fma(e.scale, e.fraction, e.scale + V(1.0f));
  return with_sign_of(V(abs(m) / denominator), x);
}

namespace detail {

// erf(x) / x - 1 as a function of x^2, for |x| up to 7/8.
template <typename V>
BNINV_INLINE V erf_inner(V square) {
  if constexpr (kIsBinary64<V>)
    return polynomial(square, -0x1.6284e14479c8fp-30, 0x1.117a2d053e757p-26, -0x1.64e1fdeb31145p-23,
                      0x1.baabdcf60fe5bp-20, -0x1.f4e30ba0b092fp-17, 0x1.f9a40b743cc5ap-14,
                      -0x1.c02dbbc99c3b5p-11, 0x1.565bcd389b4fbp-8, -0x1.b82ce31393143p-6,
                      0x1.ce2f21a0461cep-4, -0x1.812746b037a2bp-2, 0x1.06eba8214db69p-3);
  else
    return polynomial(square, -0x1.43f608p-11f, 0x1.49755ap-8f, -0x1.b6e386p-6f, 0x1.ce1fccp-4f,
                      -0x1.8127p-2f, 0x1.06eba6p-3f);
}

// log(1 - erf(a)) / a + 1, for a from 7/8 to where erf rounds to 1.
template <typename V>
BNINV_INLINE V erf_outer(V a) {
  if constexpr (kIsBinary64<V>)
    return polynomial(a, -0x1.2c7c8952adcd6p-43, 0x1.f22feb2b786a8p-38, -0x1.82007a51c7922p-33,
                      0x1.73b38dafafb7bp-29, -0x1.f2a35572e34d1p-26, 0x1.ee717293ac6e4p-23,
                      -0x1.76800735377a6p-20, 0x1.b7c92e40c73cdp-18, -0x1.8ea2668f14a77p-16,
                      0x1.0c56d01fa5054p-14, -0x1.ce8068efbcb08p-14, 0x1.80bc477813702p-16,
                      0x1.1fbff85a57defp-11, -0x1.b57e0941d98c4p-10, 0x1.99d04d3e3aac2p-13,
                      0x1.397bee6ba887ap-6, -0x1.a4f63ff66c33fp-4, -0x1.45f3001020fb7p-1,
                      -0x1.06ebaa0f6b329p-3);
  else
    return polynomial(a, 0x1.c35d92p-13f, -0x1.a6b994p-9f, 0x1.778f8p-6f, -0x1.af5bbcp-4f,
                      -0x1.4577e8p-1f, -0x1.07385ep-3f);
}

}  // namespace detail

// erf: x + x P(x^2) up to 7/8; beyond, 1 - exp(-a + a R(a)) with a = |x|.
template <typename V>
BNINV_INLINE V erf(V x) {
  using namespace detail;
  V inner = fma(erf_inner(V(x * x)), x, x);
  V a = at_most(abs(x), FormatOf<V>::kErfIsOne);
  V z = fma(erf_outer(a), a, -a);
  Exponential<V> e = exponential<0>(z);
  V outer = fma(-e.scale, e.fraction, V(1.0f) - e.scale);
  return select(a < V(0.875f), inner, with_sign_of(outer, x));
}

// sigmoid(x) = 1 / (1 + exp(-x)): with t = exp(-|x|) and q = t / (1 + t) it is 1 - q, or t - t q
// for negative x.
template <typename V>
BNINV_INLINE V sigmoid(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V z = at_least(negative_abs(x), F::kLeastExponent);
  Exponential<V> e = exponential<F::kTailShift>(z);
  V small = e.scale * V(F::kTailUnshift);
  V t = fma(small, e.fraction, small);
  V q = t / (V(1.0f) + t);
  V y = select(x < V(0.0f), t, V(1.0f));
  return fma(-y, q, y);
}

// silu(x) = x / (1 + exp(-x)); NaN at -infinity, as the formula has it.
template <typename V>
BNINV_INLINE V silu(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V z = at_least(negative_abs(x), F::kLeastExponent);
  return times_sigmoid(x, x < V(0.0f), exponential<F::kTailShift>(z));
}

// mish(x) = x tanh(log(1 + exp(x))). With t = exp(-|x|) the tangent is 1/2 + h, times t for negative x:
// there h = (1 - t^2 / 2) / (2 + 2 t + t^2), else (1 + 2 t - 2 t^2) / (2 + 4 t + 4 t^2). x h joins x / 2,
// so that an error of h counts half. NaN at -infinity, as the formula has it.
template <typename V>
BNINV_INLINE V mish(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  auto negative = x < V(0.0f);
  V z = at_least(negative_abs(x), F::kLeastExponent);
  Exponential<V> e = exponential<F::kTailShift>(z, V(0.0f));
  V small = e.scale * V(F::kTailUnshift);
  V t = fma(small, e.fraction, small);
  V numerator =
      fma(t * select(negative, V(-0.5f), V(2.0f)), select(negative, t, V(1.0f) - t), V(1.0f));
  V denominator =
      fma(t * select(negative, V(1.0f), V(4.0f)), t + select(negative, V(2.0f), V(1.0f)), V(2.0f));
  V h = numerator / denominator;
  V half = x * V(0.5f);
  V y = fma(x, fma(e.fraction, h + V(0.5f), h), half);
  return select(negative, (y * e.scale) * V(F::kTailUnshift), fma(x, h, half));
}

namespace detail {

// (Phi(x) - 1/2) / x as a function of x^2, for |x| up to 0.65; Phi is the normal distribution function.
template <typename V>
BNINV_INLINE V gelu_inner(V square) {
  if constexpr (kIsBinary64<V>)
    return polynomial(square, 0x1.0ea7374ddcaaep-29, -0x1.5f36de92273c8p-25, 0x1.656e53a2c3163p-21,
                      -0x1.3ce86066074abp-17, 0x1.e42b0952a23cap-14, -0x1.37403f63e4133p-10,
                      0x1.46d0429758e67p-7, -0x1.1058377e2cde8p-4, 0x1.9884533d4365p-2);
  else
    return polynomial(square, -0x1.1b5434p-10f, 0x1.45b194p-7f, -0x1.1053ep-4f, 0x1.98844ap-2f);
}

// p of gelu below, as a function of v + 7/16, or of v + 19/32 in binary64.
template <typename V>
BNINV_INLINE V gelu_outer(V y) {
  if constexpr (kIsBinary64<V>)
    return polynomial(
        y, 0x1.26c61e42027f0p+2, -0x1.00815d84df55ap+3, 0x1.a9a3f4dc3a102p-1, 0x1.b3e8a4a64b8c3p+2,
        -0x1.3dd81dd460caap+2, -0x1.5c86d8f2a1b54p-1, 0x1.8c6e97942d9d1p+1, -0x1.fbfa8c8c35f33p+0,
        -0x1.29f05d06734eap-3, 0x1.5014295e42637p+0, -0x1.f55249399e7ffp-1, -0x1.57502dceddf2bp-4,
        0x1.783f92c8f1d6dp-1, -0x1.f7a053ba14ffap-2, -0x1.8ac936e6be060p-3, 0x1.0910848186725p-1,
        -0x1.60b14219346dcp-3, -0x1.6fa0a8a2170c9p-2, 0x1.66cfe706f8c1dp-2, 0x1.de85b255ea9dbp-3,
        -0x1.ee74bec770762p-2, -0x1.2892c22d90a5fp-2, 0x1.7dcde1ec2c975p-1, 0x1.6a32254ccf3afp+0,
        0x1.f39aa0fbec14bp-3);

  else
    return polynomial(y, 0x1.71e4eap-3f, -0x1.1a7b2cp-4f, -0x1.f2444ep-3f, 0x1.d71c24p-3f,
                      0x1.aac5d4p-3f, -0x1.e6398ep-2f, -0x1.17fa32p-2f, 0x1.042686p+0f,
                      0x1.dd514p+0f, 0x1.0d37e2p-1f);
}

}  // namespace detail

// gelu(x) = x Phi(x) with the normal distribution function Phi; NaN at -infinity.
//
// Up to |x| = 0.65 that is x (1/2 + x P(x^2)). Beyond, t = -|x| Phi(-|x|) is gelu for negative x,
// and x + t is gelu for positive ones. With v = -|x| / (|x| + 5/2),
//
//   t = exp(-x^2 / 2) v (1 + p(v + 7/16)) / 2,  p a polynomial.
//
// t exp(x^2 / 2) as a function of v levels off towards v = -1, so the rounding errors of v matter
// little as long as both places take the same v; v + 7/16 is exact from |x| = 0.7 on. In binary64 9/4
// and 19/32 stand for 5/2 and 7/16.
template <typename V>
BNINV_INLINE V gelu(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V inner = x * fma(gelu_inner(V(x * x)), x, V(0.5f));

  V w = at_least(negative_abs(x), F::kGeluLeast);
  // -x^2/2, and what its rounding lost.
  V half = w * V(-0.5f);
  V z = w * half;
  Exponential<V> e = exponential<F::kTailShift>(z, V(fma(w, half, -z)));
  V v = w / (V(F::kGeluPole) - w);
  V p = gelu_outer(V(v + V(F::kGeluShift)));
  // (1 + fraction) (1 + p) = 1 + c: c is rounded more finely than 1 + c would be.
  V c = fma(e.fraction, p + V(1.0f), p);
  V t = (fma(v, c, v) * e.scale) * V(0.5f * F::kTailUnshift);
  // x * 0 rather than 0: it is -0 for negative x, and NaN at -infinity.
  V outer = select(x > V(0.0f), x, x * V(0.0f)) + t;
  return select(w > V(F::kGeluBreak), inner, outer);
}

// gelu with PyTorch's tanh approximation: x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), since
// (1 + tanh(u)) / 2 = sigmoid(2 u). NaN at -infinity.
//
// 2 u = c |x| (x^2 + k) is kept as a sum of two numbers: a relative error of 2^-24 in it would
// become one of 100 * 2^-24 in the tail.
template <typename V>
BNINV_INLINE V gelu_tanh(V x) {
  using namespace detail;
  using F = FormatOf<V>;
  V w = at_least(negative_abs(x), F::kGeluTanhLeast);
  V square = w * w;
  V square_low = fma(w, w, -square);
  V sum = square + V(F::kK);
  V sum_low = (square - (sum - V(F::kK))) + (square_low + V(F::kKLow));
  V factor = w * V(F::kC);
  V factor_low = fma(w, V(F::kCLow), fma(w, V(F::kC), -factor));
  V z = factor * sum;
  V z_low = fma(factor, sum_low, fma(factor_low, sum, fma(factor, sum, -z)));
  return times_sigmoid(x, x < V(0.0f), exponential<F::kTailShift>(z, z_low));
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
