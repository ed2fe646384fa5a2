// The elementwise functions by number.
#pragma once

#include "elementary.h"
#include "functions.h"
#include "hyperbolic.h"
#include "inverse_trigonometric.h"
#include "trigonometric.h"
#include "unary.h"

namespace bninv {
namespace BNINV_LEVEL {

template <Function kFunction, typename V>
BNINV_INLINE V function_of(V x, const V* parameter) {
  (void)parameter;  // few functions have any
#define BNINV_APPLY(name, number, kind, expression) \
  if constexpr (kFunction == Function::number) return expression;
  BNINV_FUNCTIONS(BNINV_APPLY)
#undef BNINV_APPLY
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
