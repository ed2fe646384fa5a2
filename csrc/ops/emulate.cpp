// What bninv.emulate() sets: the class of tensor cores that 'tensor' means on the CPU.
#include "precision.h"

namespace bninv {
namespace {

std::string emulated_arithmetic() {
  switch (emulated_class()) {
    case Precision::kTensorA:
      return "tensor-A";
    case Precision::kTensorH:
      return "tensor-H";
    case Precision::kIeee:
      break;
  }
  return "ieee";
}

// 'ieee': none.
void set_emulated_arithmetic(std::string name) {
  BNINV_CHECK(name == "ieee" || name == "tensor-A" || name == "tensor-H", "emulate",
              ": `arithmetic` is '", name, "'; it may be 'tensor-A' or 'tensor-H'");
  emulated_class() = name == "tensor-A"   ? Precision::kTensorA
                     : name == "tensor-H" ? Precision::kTensorH
                                          : Precision::kIeee;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(bninv, CompositeExplicitAutograd, m) {
  m.impl("_emulated_arithmetic", TORCH_BOX(&emulated_arithmetic));
  m.impl("_set_emulated_arithmetic", TORCH_BOX(&set_emulated_arithmetic));
}

}  // namespace bninv
