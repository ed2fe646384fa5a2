// The activations by number, for operators that apply one given at run time: the elementwise operators,
// and epilogues, where an activation follows another operator's result.
#pragma once

#include "dtypes.h"
#include "functions.h"

namespace bninv {

namespace BNINV_LEVEL {

template <Activation kActivation, typename V>
BNINV_INLINE V activate(V x, V slope) {
  (void)slope;  // leaky_relu's alone
#define BNINV_ACTIVATE(name, number, domain, kind, expression) \
  if constexpr (kActivation == Activation::number) return expression;
  BNINV_ACTIVATIONS(BNINV_ACTIVATE)
#undef BNINV_ACTIVATE
  if constexpr (kActivation == Activation::kNone) return x;
}

// The same for an activation known at run time, of those that an epilogue may have; T is the storage
// type. The host code refuses what has no meaning for T.
template <typename T, typename V>
BNINV_INLINE V activate_any(Activation activation, V x, V slope) {
  switch (activation) {
#define BNINV_CASE(name, number, ...)                                             \
  case Activation::number:                                                        \
    if constexpr (sizeof(T) < sizeof(double) || kIsPiecewise<Activation::number>) \
      return activate<Activation::number>(x, slope);                              \
    return x;
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

template <typename T, Activation kFirst, Activation kLast, typename Body>
BNINV_INLINE void with_activation(Activation activation, const Body& body) {
  if constexpr (sizeof(T) < sizeof(double) || kIsPiecewise<kFirst>)
    if (activation == kFirst) return body(ActivationConstant<kFirst>{});
  if constexpr (kFirst < kLast)
    with_activation<T, static_cast<Activation>(static_cast<int64_t>(kFirst) + 1), kLast>(activation,
                                                                                         body);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
