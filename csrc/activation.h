// The activations by number, for operators that apply one given at run time: the elementwise operators,
// and epilogues, where an activation follows another operator's result.
#pragma once

#include "dtypes.h"
#include "functions.h"

namespace bninv {

namespace BNINV_LEVEL {

template <Activation kActivation, typename V>
BNINV_INLINE V activate(V x, V negative_slope) {
  if constexpr (kActivation == Activation::kNone) return x;
  if constexpr (kActivation == Activation::kRelu) return relu(x);
  if constexpr (kActivation == Activation::kRelu6) return relu6(x);
  if constexpr (kActivation == Activation::kSilu) return silu(x);
  if constexpr (kActivation == Activation::kHardswish) return hardswish(x);
  if constexpr (kActivation == Activation::kLeakyRelu) return leaky_relu(x, negative_slope);
  if constexpr (kActivation == Activation::kSigmoid) return sigmoid(x);
  if constexpr (kActivation == Activation::kHardsigmoid) return hardsigmoid(x);
  if constexpr (kActivation == Activation::kGelu) return gelu(x);
  if constexpr (kActivation == Activation::kGeluTanh) return gelu_tanh(x);
  if constexpr (kActivation == Activation::kTanh) return tanh(x);
  if constexpr (kActivation == Activation::kSqrt) return sqrt(x);
  if constexpr (kActivation == Activation::kRsqrt) return V(1) / sqrt(x);
}

// The same for an activation known at run time, of those that an epilogue may have; T is the storage
// type. The host code refuses what has no meaning for T.
template <typename T, typename V>
BNINV_INLINE V activate_any(Activation activation, V x, V negative_slope) {
  switch (activation) {
    case Activation::kRelu:
      return relu(x);
    case Activation::kRelu6:
      return relu6(x);
    case Activation::kSilu:
      if constexpr (sizeof(T) < sizeof(double)) return silu(x);
      return x;
    case Activation::kHardswish:
      return hardswish(x);
    case Activation::kLeakyRelu:
      return leaky_relu(x, negative_slope);
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
