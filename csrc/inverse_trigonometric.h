// R6, continued: asin, acos, atan and atan2, and hypot, in binary64 for both formats.
#pragma once

#include "binary64.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace detail {

constexpr double kPi = 0x1.921fb54442d18p+1, kPiLow = 0x1.1a62633145c07p-53;

// The angle of the point (x, y), from 0 to pi, for y >= 0 and not NaN.
//
// With the quotient t of the lesser and the greater side it is atan(t), or beyond tan(pi/8)
// pi/4 + atan((t - 1) / (t + 1)); where y is the greater that is taken from pi/2, where x is negative
// from pi.
template <typename D>
BNINV_INLINE D angle_of(D y, D x) {
  constexpr double kTanEighth = 0x1.a827999fcef34p-2, kHuge = 0x1p1000;
  D adjacent = abs(x);
  auto steep = y > adjacent;
  D lesser = select(steep, adjacent, y), greater = select(steep, y, adjacent);
  // Two infinities count as equal sides, one as a side beside nothing, two zeros as 0 beside 1.
  D beside = select(lesser < D(kInfinity), D(0.0), D(1.0));
  lesser = select(greater < D(kInfinity), lesser, beside);
  greater = select(greater < D(kInfinity), greater, D(1.0));
  greater = select(greater == D(0.0), D(1.0), greater);
  D scale = select(greater > D(kHuge), D(0x1p-30), D(1.0));  // their sum is finite
  lesser = lesser * scale;
  greater = greater * scale;

  auto wide = lesser > greater * D(kTanEighth);
  Pair<D> sum = fast_two_sum(greater, lesser), difference = two_sum(lesser, D(-greater));
  D over = select(wide, difference.high, lesser), over_low = select(wide, difference.low, D(0.0));
  D under = select(wide, sum.high, greater), under_low = select(wide, sum.low, D(0.0));
  D t = over / under;
  D t_low = ((fma(-t, under, over) + over_low) - t * under_low) / under;
  D square = t * t;
  D rest = fma(t * square,
               polynomial(square, 0x1.87da18e861544p-7, -0x1.bed97f0de4102p-6, 0x1.3104d13506c3dp-5,
                          -0x1.5fc9004cb5437p-5, 0x1.857f934965bd4p-5, -0x1.af19a6c9bd78ep-5,
                          0x1.e1e0de6848e02p-5, -0x1.11110ad464dfdp-4, 0x1.3b13b106c8c33p-4,
                          -0x1.745d1744b4a25p-4, 0x1.c71c71c718ce8p-4, -0x1.2492492492461p-3,
                          0x1.9999999999999p-3, -0x1.5555555555555p-2),
               t_low / (D(1.0) + square));
  Pair<D> angle = fast_two_sum(t, rest);
  // Quarters of pi that it is added to, or taken from.
  D quarters = select(wide, D(1.0), D(0.0)), sign = D(1.0);
  quarters = select(steep, D(2.0) - quarters, quarters);
  sign = select(steep, -sign, sign);
  auto behind = with_sign_of(D(1.0), x) < D(0.0);
  quarters = select(behind, D(4.0) - quarters, quarters);
  sign = select(behind, -sign, sign);
  Pair<D> total = fast_two_sum(D(quarters * D(kPi * 0.25)), D(sign * angle.high));
  return total.high + (fma(quarters, D(kPiLow * 0.25), sign * angle.low) + total.low);
}

struct Atan {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    return select(x == x, with_sign_of(angle_of(abs(x), D(1.0)), x), x);
  }
};

struct Atan2 {
  template <typename D>
  BNINV_INLINE D operator()(D y, D x) const {
    D angle = with_sign_of(angle_of(abs(y), x), y);
    return select(x == x, D(select(y == y, angle, y)), x);
  }
};

// sqrt(x^2 + y^2) of sides brought near 1; infinite where either is, whatever the other.
struct Hypot {
  template <typename D>
  BNINV_INLINE D operator()(D x, D y) const {
    x = abs(x);
    y = abs(y);
    auto ordered = x > y;
    D greater = select(ordered, x, y), lesser = select(ordered, y, x);
    D scale = select(greater > D(0x1p500), D(0x1p-600), D(1.0));
    scale = select(greater < D(0x1p-400), D(0x1p600), scale);
    D unscale = D(1.0) / scale;
    greater = greater * scale;
    lesser = lesser * scale;
    D root = sqrt(D(fma(greater, greater, lesser * lesser))) * unscale;
    root = select(x < D(kInfinity), root, D(x + y));
    root = select(y < D(kInfinity), root, D(x + y));
    return select(x == D(kInfinity), x, D(select(y == D(kInfinity), y, root)));
  }
};

}  // namespace detail

template <typename V>
BNINV_INLINE V atan(V x) {
  return in_binary64(detail::Atan{}, x);
}

template <typename V>
BNINV_INLINE V atan2(V y, V x) {
  return in_binary64(detail::Atan2{}, y, x);
}

template <typename V>
BNINV_INLINE V hypot(V x, V y) {
  return in_binary64(detail::Hypot{}, x, y);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
