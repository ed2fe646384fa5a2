// Storage types and activations by name: what host code and kernels both speak of.
#pragma once

#include <cstdint>

#include "activations.h"

namespace bninv {

enum class DType : int32_t { kFloat, kDouble, kHalf, kBFloat16 };

// IEEE binary16, and the upper half of a binary32. No arithmetic is done in them.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Elements of a parameter with one value a channel, dense; nullptr: there is none.
struct Parameter {
  const void* data;
  DType dtype;
};

// How a product's terms are added: R1, or R9 in one of the classes of tensor cores.
enum class Precision : int32_t { kIeee, kTensorA, kTensorH };

enum class Activation : int64_t {
  kNone,
#define BNINV_NUMBER(name, number, ...) number,
  BNINV_ACTIVATIONS(BNINV_NUMBER)
#undef BNINV_NUMBER
};

#define BNINV_COUNT(...) +1
inline constexpr int64_t kEpilogueActivations = 0 BNINV_EPILOGUE_ACTIVATIONS(BNINV_COUNT);
inline constexpr int64_t kActivations = 0 BNINV_ACTIVATIONS(BNINV_COUNT);
#undef BNINV_COUNT
// The last that may follow another operator, and the last.
inline constexpr Activation kLastEpilogue = static_cast<Activation>(kEpilogueActivations);
inline constexpr Activation kLastActivation = static_cast<Activation>(kActivations);

// By an activation's number: its name.
inline constexpr const char* kActivationNames[] = {"none",
#define BNINV_NAME(name, ...) #name,
                                                   BNINV_ACTIVATIONS(BNINV_NAME)
#undef BNINV_NAME
};

}  // namespace bninv
