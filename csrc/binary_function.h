// The elementwise functions of two tensors by number.
#pragma once

#include "binary.h"
#include "division.h"
#include "inverse_trigonometric.h"
#include "power.h"

namespace bninv {
namespace BNINV_LEVEL {

template <BinaryFunction kFunction, typename V>
BNINV_INLINE V binary_of(V x, V y) {
#define BNINV_APPLY(name, number, expression) \
  if constexpr (kFunction == BinaryFunction::number) return expression;
  BNINV_BINARY_FUNCTIONS(BNINV_APPLY)
#undef BNINV_APPLY
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
