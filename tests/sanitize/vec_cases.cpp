// Each level's vectors against floats, one by one (vec_operations.cpp).
#include "cases.h"

using namespace bninv;

namespace {

float from_pattern(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Of any pattern; of few bits, so that neighbours are equal or ties of a narrower type; or special.
float any_number() {
  constexpr uint32_t kSpecial[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fffffff,
                                   0xffffffff, 0x7f800001, 0x00000001, 0x807fffff, 0x7f7fffff,
                                   0x477ff000, 0x477fefff, 0x33000000, 0x33000001, 0x387fe000};
  const uint32_t bits = engine();
  switch (between(0, 3)) {
    case 0:
      return from_pattern(kSpecial[between(0, 14)]);
    case 1:
      return from_pattern(bits & 0xffff8000);
    case 2:
      return from_pattern((bits & 0x8ffff000) | 0x38000000);  // about a half's exponents
    default:
      return from_pattern(bits);
  }
}

}  // namespace

void vec_case() {
  constexpr int64_t kCount = 1024, kMaxOperations = 64;
  ++cases;
  std::vector<float> inputs(3 * kCount), expected;
  for (float& x : inputs) x = any_number();
  const float* a = inputs.data();
  for (const Level& level : levels()) {
    std::vector<float> results(kMaxOperations * kCount);
    const float* end = level.vec_operations(a, a + kCount, a + 2 * kCount, kCount, results.data());
    const size_t bytes = static_cast<size_t>(end - results.data()) * sizeof(float);
    canonicalize(results.data(), bytes, DType::kFloat);
    record(level.name, "vec", DType::kFloat, results.data(), bytes);
    if (expected.empty()) expected = results;
    for (size_t i = 0; i < results.size(); ++i) {
      if (std::memcmp(&expected[i], &results[i], sizeof(float)) == 0) continue;
      std::fprintf(stderr, "vec, case %d: operation %zu of %a, %a, %a is %a at level %s, not %a\n",
                   cases, i / kCount, a[i % kCount], a[i % kCount + kCount],
                   a[i % kCount + 2 * kCount], results[i], level.name, expected[i]);
      ++failures;
      break;
    }
  }
}
