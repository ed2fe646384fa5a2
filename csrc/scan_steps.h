// A scan's first result, and each that follows from the one before it and the next element (R3).
#pragma once

#include "elementary.h"
#include "scan.h"

namespace bninv {
namespace BNINV_LEVEL {

struct AddStep {
  template <typename V>
  BNINV_INLINE V first(V x) const {
    return V(0.0f) + x;
  }
  template <typename V>
  BNINV_INLINE V next(V y, V x) const {
    return y + x;
  }
};

struct MultiplyStep {
  template <typename V>
  BNINV_INLINE V first(V x) const {
    return x;
  }
  template <typename V>
  BNINV_INLINE V next(V y, V x) const {
    return y * x;
  }
};

// log(e^y + e^x). Of equal ones, infinite ones too, the difference is 0.
struct LogAddExpStep {
  template <typename V>
  BNINV_INLINE V first(V x) const {
    return x;
  }
  template <typename V>
  BNINV_INLINE V next(V y, V x) const {
    return maximum(y, x) + detail::log1p_exp(select(y == x, V(0.0f), y - x));
  }
};

// Calls `body` with the step of a scan.
template <typename Body>
void with_step(Scan scan, const Body& body) {
  switch (scan) {
    case Scan::kSum:
      return body(AddStep{});
    case Scan::kProduct:
      return body(MultiplyStep{});
    case Scan::kLogSumExp:
      return body(LogAddExpStep{});
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
