// Runs every kernel, the CPU's at every instruction-set level this machine has and the GPU's where the
// build has its emulation, on awkward small shapes. All bits must be equal.
//
// Built with the address and undefined-behaviour sanitizers (run.py), and for another machine
// (../aarch64/run.py). Each buffer is a heap block of exactly the elements the kernel may touch, so a
// read or write past either end is an error. With --results all results go to the standard output.
#include "cases.h"

using namespace bninv;

namespace bninv {

int cases = 0, failures = 0;
static bool recording = false;

void canonicalize(void* elements, size_t size, DType dtype) {
  auto* bytes = static_cast<unsigned char*>(elements);
  const size_t step = size_of(dtype);
  const uint64_t magnitude = ~uint64_t{0} >> (65 - 8 * step);
  const uint64_t infinity = dtype == DType::kDouble  ? 0x7ff0000000000000
                            : dtype == DType::kFloat ? 0x7f800000
                            : dtype == DType::kHalf  ? 0x7c00
                                                     : 0x7f80;
  for (size_t i = 0; i < size; i += step) {
    uint64_t bits = 0;  // both machines are little-endian
    std::memcpy(&bits, bytes + i, step);
    if ((bits & magnitude) > infinity) std::memset(bytes + i, 0xff, step);
  }
}

void record(const char* level, const char* name, DType dtype, const void* elements, size_t size) {
  if (!recording) return;
  constexpr const char* kTypes[] = {"float32", "float64", "float16", "bfloat16"};
  std::printf("%s\t%s %s\t%zu\n", level, name, kTypes[static_cast<int>(dtype)], size);
  std::fwrite(elements, 1, size, stdout);
}

}  // namespace bninv

int main(int count, char** arguments) {
  recording = count > 1 && std::strcmp(arguments[1], "--results") == 0;
  for (int i = 0; i < 60; ++i) {
    seed_case("vec", i), vec_case();
    product_cases(i);
    window_cases(i);
    volume_cases(i);
    typed_cases(i);
    attention_cases(i);
    nms_cases(i);
  }
  std::string names;
  for (const Level& level : levels()) names += std::string(" ") + level.name;
  std::fprintf(stderr, "bninv: %d cases at levels%s, %d failures\n", cases, names.c_str(),
               failures);
  return failures == 0 ? 0 : 1;
}
