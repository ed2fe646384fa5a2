// The CPU kernels.
//
// Every kernel does the tasks [begin, end) of its operator, so that the caller may spread tasks over
// threads as it likes; the tasks' results do not depend on how. Callers hold a FloatingPointScope.
#pragma once

#include "../arguments.h"

namespace bninv {

#define BNINV_DECLARE_KERNELS(level)                                         \
  namespace level {                                                          \
  void batch_norm(const BatchNormArgs& args, int64_t begin, int64_t end);    \
  void layer_norm(const LayerNormArgs& args, int64_t begin, int64_t end);    \
  void group_norm(const GroupNormArgs& args, int64_t begin, int64_t end);    \
  void softmax(const SoftmaxArgs& args, int64_t begin, int64_t end);         \
  void linear(const LinearArgs& args, int64_t begin, int64_t end);           \
  void conv2d(const Conv2dArgs& args, int64_t begin, int64_t end);           \
  void conv2d_depthwise(const Conv2dArgs& args, int64_t begin, int64_t end); \
  void conv2d_grouped(const Conv2dArgs& args, int64_t begin, int64_t end);   \
  void conv2d_tensor(const Conv2dArgs& args, int64_t begin, int64_t end);    \
  void avg_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end);       \
  void max_pool2d(const Pool2dArgs& args, int64_t begin, int64_t end);       \
  void sum(const ReduceArgs& args, int64_t begin, int64_t end);              \
  void unary(const UnaryArgs& args, int64_t begin, int64_t end);             \
  }

BNINV_DECLARE_KERNELS(scalar)
#if defined(BNINV_HAVE_AVX2)
BNINV_DECLARE_KERNELS(avx2)
#endif
#if defined(BNINV_HAVE_AVX512)
BNINV_DECLARE_KERNELS(avx512)
#endif
#if defined(BNINV_HAVE_NEON)
BNINV_DECLARE_KERNELS(neon)
#endif

}  // namespace bninv
