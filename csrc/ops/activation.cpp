#include "common.h"

namespace bninv {

Activation epilogue_activation(const char* op, const std::string& name, DType dtype) {
  std::string listed;
  for (int64_t i = 0; i <= kEpilogueActivations; ++i) {
    if (name == kActivationNames[i]) {
      const auto activation = static_cast<Activation>(i);
      check_activation(op, activation, name, dtype);
      return activation;
    }
    listed += std::string(i > 0 ? ", '" : "'") + kActivationNames[i] + "'";
  }
  BNINV_CHECK(false, op, ": `activation` is '", name, "'; it may be ", listed);
  return Activation::kNone;
}

void check_activation(const char* op, Activation activation, const std::string& name, DType dtype) {
  BNINV_CHECK(dtype != DType::kDouble || is_piecewise(activation), op,
              ": `input` has dtype torch.float64, ", "in which ", name,
              " is not defined yet; it may be torch.float32, torch.float16 or ", "torch.bfloat16");
}

}  // namespace bninv
