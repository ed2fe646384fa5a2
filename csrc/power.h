// R6, continued: pow, in binary64 for both formats.
#pragma once

#include "binary64.h"
#include "functions.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace detail {

// log(x) as a sum of two numbers, to a relative 2^-64, for finite x > 0: k ln 2 + log(1 + f), and
// log(1 + f) = 2 artanh(s) with s = f / (2 + f).
template <typename D>
BNINV_INLINE Pair<D> log_pair(D x) {
  Logarithm<D> l = exponent_and_rest(x);
  D denominator = l.f + D(2.0);
  D denominator_low = l.f - (denominator - D(2.0));
  D s = l.f / denominator;
  D s_low = fma(-s, denominator_low, fma(-s, denominator, l.f)) / denominator;
  Pair<D> square = two_product(s, s);
  D square_low = fma(D(s + s), s_low, square.low);
  // artanh(s) / s = 1 + square / 3 + square^2 (...).
  constexpr double kThird = 0x1.5555555555555p-2, kThirdLow = 0x1.5555555555555p-56;
  Pair<D> third = two_product(square.high, D(kThird));
  D third_low = fma(square.high, D(kThirdLow), fma(square_low, D(kThird), third.low));
  D higher = (square.high * square.high) * polynomial(square.high, 0x1.b8d433113b7fap-5,
                                                      0x1.ac4a89c964b82p-5, 0x1.e1f7fa7547177p-5,
                                                      0x1.1110dfad0f8eap-4, 0x1.3b13b1bc75cd4p-4,
                                                      0x1.745d174513593p-4, 0x1.c71c71c71cfd9p-4,
                                                      0x1.2492492492491p-3, 0x1.999999999999ap-3);
  Pair<D> w = fast_two_sum(third.high, higher);
  D w_low = w.low + third_low;
  D twice = s + s, twice_low = s_low + s_low;
  Pair<D> product = two_product(twice, w.high);
  D product_low = fma(twice, w_low, fma(twice_low, w.high, product.low));
  Pair<D> log1p = fast_two_sum(twice, product.high);
  D log1p_low = log1p.low + (product_low + twice_low);
  // The high part of ln 2 times k is exact.
  Pair<D> sum = fast_two_sum(D(l.k * D(Format64::kLn2High)), log1p.high);
  D low = sum.low + fma(l.k, D(Format64::kLn2Low), log1p_low);
  return fast_two_sum(sum.high, low);
}

// exp(z + z_low), from +0 to infinity.
template <typename D>
BNINV_INLINE D exp_of_pair(D z, D z_low) {
  constexpr double kRounder = kBiasedRounder<double, Format64::kBias>;
  z = at_least(at_most(z, Format64::kGreatestExp), Format64::kLeastExp);
  D rounded = fma(z, D(Format64::kLog2E), D(kRounder));
  D n = rounded - D(kRounder);
  D r_high = fma(n, D(-Format64::kLn2High), z);
  D r_low = fma(n, D(-Format64::kLn2Low), z_low);
  D r = r_high + r_low;
  D r_rest = (r_high - r) + r_low;
  D p = D(1.0) + (r + fma(r * r, exp_tail(r), r_rest));
  auto bits = to_bits(rounded);
  auto half = bits >> 1;
  D lower = from_bits(half << Format64::kFraction);
  D upper = from_bits((bits - half) << Format64::kFraction);
  return (p * lower) * upper;
}

// Whether a number that is not negative is an integer.
template <typename D>
BNINV_INLINE auto is_integer(D x) {
  constexpr double kWhole = 0x1p52;  // from here on all are
  return select(x >= D(kWhole), D(0.0), D((x + D(kWhole)) - D(kWhole) - x)) == D(0.0);
}

// |x|^y = exp(y log |x|), and C's special values.
struct Pow {
  template <typename D>
  BNINV_INLINE D operator()(D x, D y) const {
    D base = abs(x), exponent = abs(y);
    Pair<D> log = log_pair(base);
    // Of zero -infinity, of infinity and NaN themselves.
    auto regular = select(base > D(0.0), base, D(kInfinity)) < D(kInfinity);
    D high = select(regular, log.high, select(base == D(0.0), D(-kInfinity), base));
    Pair<D> product = two_product(y, high);
    D low = fma(y, log.low, product.low);
    // An infinite product, and one beyond exp's range, has no second part.
    low = select(regular, select(abs(product.high) < D(1000.0), low, D(0.0)), D(0.0));
    D power = exp_of_pair(product.high, low);
    power = select(base == D(1.0), select(exponent == exponent, D(1.0), y), power);

    // Of a negative base: NaN, unless the exponent is an integer; an odd one keeps the sign.
    D negated = from_bits(to_bits(power) | (to_bits(x) & Format64::kSign));
    D whole = select(is_integer(D(exponent * D(0.5))), power, negated);
    auto defined = select(is_integer(exponent), D(0.0), select(x < D(0.0), base, D(0.0)));
    // An infinite base is defined with any exponent.
    power = select(is_integer(exponent), whole, power);
    power = select(select(defined < D(kInfinity), defined, D(0.0)) > D(0.0), D(kNaN), power);
    return select(x == D(1.0), D(1.0), D(select(y == D(0.0), D(1.0), power)));
  }
};

}  // namespace detail

template <typename V>
BNINV_INLINE V pow(V x, V y) {
  return in_binary64(detail::Pow{}, x, y);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
