// The matrix product of tiled_matmul.cu as a program, for builds with sanitizers: 0 if its bits are
// right under several orders, and still are after launches that failed half-way.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "emulation/emulation.h"

extern "C" const char* run_tiled_matmul(int tiling, const float* a, const float* b, float* out,
                                        int m, int n, int k);
extern "C" const char* run_self_test(const char* name, void* out, void* in, int64_t n);

namespace {

bool matmul_is_right(int tiling, int m, int n, int k) {
  // Of exactly their sizes, so that the sanitizer sees the first element too many.
  std::vector<float> a(static_cast<size_t>(m) * k), b(static_cast<size_t>(k) * n);
  std::vector<float> out(static_cast<size_t>(m) * n, NAN);
  for (size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i));
  for (size_t i = 0; i < b.size(); ++i) b[i] = std::cos(static_cast<float>(i));
  if (const char* error = run_tiled_matmul(tiling, a.data(), b.data(), out.data(), m, n, k)) {
    std::fprintf(stderr, "%s\n", error);
    return false;
  }
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      float total = 0.0f;
      for (int first = 0; first < k; first += 128) {
        float chain = 0.0f;
        for (int t = first; t < k && t < first + 128; ++t)
          chain =
              std::fma(a[static_cast<size_t>(i) * k + t], b[static_cast<size_t>(t) * n + j], chain);
        total += chain;
      }
      if (std::memcmp(&total, &out[static_cast<size_t>(i) * n + j], sizeof(total)) != 0)
        return false;
    }
  return true;
}

}  // namespace

int main(int count, char**) {
  if (count > 1) {  // any argument: a kernel that reads and writes one element too far
    std::vector<int> out(1000);
    run_self_test("add_one", out.data(), nullptr, 1001);
    return 0;
  }
  for (uint64_t seed = 0; seed < 3; ++seed) {
    bninv::emulation::settings().seed = seed;
    if (!matmul_is_right(0, 9, 17, 131) || !matmul_is_right(1, 33, 81, 65)) {
      std::fprintf(stderr, "wrong at seed %d\n", static_cast<int>(seed));
      return 1;
    }
    // Threads are left on their stacks for good, and their stacks are made anew.
    for (const char* name : {"throws", "some_exit", "lane_exited", "static_over_limit"})
      if (run_self_test(name, nullptr, nullptr, 0) == nullptr) return 1;
    int out[12 * 64];
    if (run_self_test("warp_operations", out, nullptr, 0) != nullptr) return 1;
  }
  return 0;
}
