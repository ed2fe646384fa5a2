#include "precision.h"

#include "gpu.h"

namespace bninv {

Precision& emulated_class() {
  thread_local Precision value = Precision::kIeee;
  return value;
}

Precision precision_of(const char* op, const std::string& word, const Tensor& input) {
  if (word == "ieee") return Precision::kIeee;
  BNINV_CHECK(word == "tensor" || word == "tensor-A" || word == "tensor-H", op,
              ": `precision` is '", word,
              "'; it may be 'ieee', 'tensor', 'tensor-A' or 'tensor-H'");
  const Precision named = word == "tensor-A" ? Precision::kTensorA : Precision::kTensorH;
  if (!on_cuda(input)) {
    if (word != "tensor") return named;
    BNINV_CHECK(
        emulated_class() != Precision::kIeee, op,
        ": `precision` is 'tensor' and `input` is on the CPU, which has no tensor cores; it "
        "may be 'ieee', or 'tensor-A' or 'tensor-H' to reproduce those of a GPU, slowly, as "
        "'tensor' does within `with bninv.emulate('tensor-H'):`");
    return emulated_class();
  }
#if defined(BNINV_HAVE_CUDA) || defined(BNINV_EMULATION)
  const CudaScope scope(input);
  const Precision own = BNINV_CUDA_KERNEL(tensor_class)();
  BNINV_CHECK(own != Precision::kIeee, op, ": `precision` is '", word,
              "', and the arithmetic of this GPU's tensor cores is not "
              "known; it may be 'ieee'");
  BNINV_CHECK(
      word == "tensor" || named == own, op, ": `precision` is '", word,
      "', and this GPU's tensor cores are of the other class; it may be 'ieee' or 'tensor'");
  return own;
#else
  return named;
#endif
}

}  // namespace bninv
