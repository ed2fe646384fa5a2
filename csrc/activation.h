// The activations by number, for operators that apply one given at run time: the elementwise operators,
// and epilogues, where an activation follows another operator's result.
#pragma once

#include "dtypes.h"
#include "elementary.h"
#include "functions.h"

namespace bninv {

namespace BNINV_LEVEL {

template <Activation kActivation, typename V>
BNINV_INLINE V activate(V x, const V* parameter) {
  (void)parameter;  // few functions have any
#define BNINV_ACTIVATE(name, number, kind, expression) \
  if constexpr (kActivation == Activation::number) return expression;
  BNINV_ACTIVATIONS(BNINV_ACTIVATE)
#undef BNINV_ACTIVATE
  if constexpr (kActivation == Activation::kNone) return x;
}

// The same of a function with one parameter at most, which those of an epilogue are.
template <Activation kActivation, typename V>
BNINV_INLINE V activate(V x, V slope) {
  return activate<kActivation>(x, &slope);
}

// For an activation known at run time, of those that an epilogue may have.
template <typename V>
BNINV_INLINE V activate_any(Activation activation, V x, V slope) {
  switch (activation) {
#define BNINV_CASE(name, number, ...) \
  case Activation::number:            \
    return activate<Activation::number>(x, slope);
    BNINV_EPILOGUE_ACTIVATIONS(BNINV_CASE)
#undef BNINV_CASE
    default:
      return x;
  }
}

// Calls `body` with the activation as a compile-time constant: kFirst or one after it, up to kLast.
template <Activation kValue>
struct ActivationConstant {
  static constexpr Activation value = kValue;
};

template <Activation kFirst, Activation kLast, typename Body>
BNINV_INLINE void with_activation(Activation activation, const Body& body) {
  if (activation == kFirst) return body(ActivationConstant<kFirst>{});
  if constexpr (kFirst < kLast)
    with_activation<static_cast<Activation>(static_cast<int64_t>(kFirst) + 1), kLast>(activation,
                                                                                      body);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
