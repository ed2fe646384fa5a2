#include "common.h"

namespace bninv {

Activation epilogue_activation(const char* op, const std::string& name) {
  std::string listed;
  for (int64_t i = 0; i <= kEpilogueActivations; ++i) {
    if (name == kActivationNames[i]) return static_cast<Activation>(i);
    listed += std::string(i > 0 ? ", '" : "'") + kActivationNames[i] + "'";
  }
  BNINV_CHECK(false, op, ": `activation` is '", name, "'; it may be ", listed);
  return Activation::kNone;
}

}  // namespace bninv
