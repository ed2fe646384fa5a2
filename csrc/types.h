// Storage types and activations by name: what host code and kernels both speak of.
#pragma once

#include <cstdint>

namespace bninv {

enum class DType : int32_t { kFloat, kDouble, kHalf, kBFloat16 };

// IEEE binary16, and the upper half of a binary32. No arithmetic is done in them.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// How a product's terms are added: R1, or R9 in one of the classes of tensor cores.
enum class Precision : int32_t { kIeee, kTensorA, kTensorH };

enum class Activation : int64_t {
  kNone,
  kRelu,
  kRelu6,
  kSilu,
  kHardswish,
  kLeakyRelu,
  // The last that an epilogue takes; the others stand alone.
  kSigmoid,
  kHardsigmoid,
  kGelu,
  kGeluTanh,
  kTanh,
  kSqrt,
  kRsqrt,
};

// R6 in binary64 is defined for functions without an exponential.
template <Activation kActivation>
inline constexpr bool kIsPiecewise =
    kActivation == Activation::kNone || kActivation == Activation::kRelu ||
    kActivation == Activation::kRelu6 || kActivation == Activation::kHardswish ||
    kActivation == Activation::kLeakyRelu || kActivation == Activation::kHardsigmoid ||
    kActivation == Activation::kSqrt || kActivation == Activation::kRsqrt;

}  // namespace bninv
