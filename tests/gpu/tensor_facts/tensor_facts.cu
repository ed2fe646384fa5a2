// Does this GPU's tensor core compute what csrc/tensor_block.h says? Stands alone: no torch.
//
//   tensor_facts about                          of what it was compiled from, and for
//   tensor_facts facts INSTRUCTION SAMPLES      draws, multiplies, compares
//   tensor_facts speed INSTRUCTION              its ceiling, in TFLOP/s
//
// Each prints a JSON object. SAMPLES gets operands and results of some tiles, for NumPy to compute
// once more. An instruction a process: one that faults takes nothing of the others with it. The exit
// status says whether the machine worked, not whether the model is right.
//
// tests/gpu/tensor.py compiles and runs this.

#include <cstring>

#include "facts.cuh"
#include "speed.cuh"

namespace tensor_facts {

struct Entry {
  const char* name;
  void (*facts)(Json&, TensorClass, FILE*);
  void (*speed)(Json&, TensorClass);
};

template <typename I>
void mma_speed(Json& json, TensorClass) {
  time_mma<I>(json);
}

constexpr Entry kEntries[] = {
    {"m16n8k16_f16", examine_mma<F16K16, F16K8>, mma_speed<F16K16>},
    {"m16n8k16_bf16", examine_mma<BF16K16, BF16K8>, mma_speed<BF16K16>},
    {"m16n8k8_tf32", examine_mma<TF32K8, TF32K4>, mma_speed<TF32K8>},
    {"m16n8k8_f16", examine_mma<F16K8, F16K8>, mma_speed<F16K8>},
    {"m16n8k8_bf16", examine_mma<BF16K8, BF16K8>, mma_speed<BF16K8>},
    {"m16n8k4_tf32", examine_mma<TF32K4, TF32K4>, mma_speed<TF32K4>},
    {"wgmma_k16_f16", examine_wgmma<F16K16, false>, time_wgmma<F16K16>},
    {"wgmma_k16_bf16", examine_wgmma<BF16K16, false>, time_wgmma<BF16K16>},
    {"wgmma_k8_tf32", examine_wgmma<TF32K8, false>, time_wgmma<TF32K8>},
    {"wgmma_k16_f16_registers", examine_wgmma<F16K16, true>, nullptr},
    {"wgmma_k16_bf16_registers", examine_wgmma<BF16K16, true>, nullptr},
    {"wgmma_k8_tf32_registers", examine_wgmma<TF32K8, true>, nullptr},
};

int run(const char* part, const Entry& entry, const char* samples_path) {
  int major = 0;
  CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  const TensorClass rule = major >= 9 ? kTensorH : kTensorA;
  Json json;
  json.open();
  json.text("class", major >= 9 ? "H" : "A");
  if (strcmp(part, "speed") == 0) {
    if (entry.speed == nullptr) return fprintf(stderr, "%s is not timed\n", entry.name), 2;
    entry.speed(json, rule);
  } else {
    FILE* samples = fopen(samples_path, "wb");
    if (samples == nullptr) return fprintf(stderr, "cannot write %s\n", samples_path), 2;
    entry.facts(json, rule, samples);
    fclose(samples);
  }
  json.close();
  return 0;
}

}  // namespace tensor_facts

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "about") == 0) {
    puts("{\"key\": \"" TENSOR_FACTS_KEY "\", \"architectures\": \"" TENSOR_FACTS_ARCHITECTURES
         "\"}");
    return 0;
  }
  const bool facts = argc == 4 && strcmp(argv[1], "facts") == 0;
  if (facts || (argc == 3 && strcmp(argv[1], "speed") == 0)) {
    for (const auto& entry : tensor_facts::kEntries)
      if (strcmp(argv[2], entry.name) == 0)
        return tensor_facts::run(argv[1], entry, facts ? argv[3] : nullptr);
  }
  fprintf(stderr, "usage: tensor_facts about | facts INSTRUCTION SAMPLES | speed INSTRUCTION\n");
  return 2;
}
