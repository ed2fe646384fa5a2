// What the sanitizer driver's files share: the levels, and where random shapes come from.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/schedule.h"
#include "cuda/kernels.h"

namespace bninv {
BNINV_DECLARE_KERNELS(emulated16)
}

namespace bninv {

struct Level {
  const char* name;
  void (*batch_norm)(const BatchNormArgs&, int64_t, int64_t);
  void (*linear)(const LinearArgs&, int64_t, int64_t);
  void (*conv2d)(const Conv2dArgs&, int64_t, int64_t);
  void (*conv2d_depthwise)(const Conv2dArgs&, int64_t, int64_t);
  void (*conv2d_grouped)(const Conv2dArgs&, int64_t, int64_t);
  void (*avg_pool2d)(const Pool2dArgs&, int64_t, int64_t);
  void (*max_pool2d)(const Pool2dArgs&, int64_t, int64_t);
  void (*sum)(const ReduceArgs&, int64_t, int64_t);
  void (*unary)(const UnaryArgs&, int64_t, int64_t);
};

#define LEVEL(level)                                                                          \
  Level {                                                                                     \
    #level, level::batch_norm, level::linear, level::conv2d, level::conv2d_depthwise,         \
        level::conv2d_grouped, level::avg_pool2d, level::max_pool2d, level::sum, level::unary \
  }

inline std::vector<Level> levels() {
  std::vector<Level> found{LEVEL(scalar), LEVEL(emulated16)};
#if defined(BNINV_HAVE_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(LEVEL(avx2));
#endif
#if defined(BNINV_HAVE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    found.push_back(LEVEL(avx512));
#endif
  return found;
}

inline std::mt19937 engine(1);

inline int64_t between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(engine() % static_cast<uint32_t>(high - low + 1));
}
inline int64_t one_of(std::initializer_list<int64_t> values) {
  return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
}

}  // namespace bninv

// Counted over all files.
extern int cases, failures;

// Each runs some cases of its operators, of random shapes and storage types.
void elementwise_cases();
void product_cases();
void window_cases();
