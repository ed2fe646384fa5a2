// What the driver's files share: the levels, where random shapes come from, and where results go.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "attention.h"
#include "batch_norm.h"
#include "binary.h"
#include "bmm.h"
#include "conv3d.h"
#include "cpu/schedule.h"
#include "deform_conv2d.h"
#include "grid_sample.h"
#include "group_norm.h"
#include "hostile_state.h"
#include "layer_norm.h"
#include "nms.h"
#include "ops/floating_point_scope.h"
#include "pool2d.h"
#include "pool3d.h"
#include "resample.h"
#include "roi.h"
#include "scan.h"
#include "softmax.h"
#include "sum.h"
#include "tensor.h"
#include "unary.h"

// The launcher of an emulated CUDA kernel, where the build has the emulation; that of one which is
// planned before it is launched (buffers.h).
#if defined(BNINV_EMULATION)
#define CUDA_KERNEL(name) cuda::name
#define PLANNED_CUDA_KERNEL(plan, name) launch_planned<cuda::plan, cuda::name>
#else
#define CUDA_KERNEL(name) nullptr
#define PLANNED_CUDA_KERNEL(plan, name) nullptr
#endif

namespace bninv {

// Every kernel that the cases run, with its arguments. `X` is handed on.
#define SANITIZED_KERNELS(F, X)      \
  F(attention, AttentionArgs, X)     \
  F(avg_pool2d, Pool2dArgs, X)       \
  F(avg_pool3d, Pool3dArgs, X)       \
  F(batch_norm, BatchNormArgs, X)    \
  F(binary, BinaryArgs, X)           \
  F(bmm, BmmArgs, X)                 \
  F(conv2d, Conv2dArgs, X)           \
  F(conv2d_depthwise, Conv2dArgs, X) \
  F(conv2d_grouped, Conv2dArgs, X)   \
  F(conv2d_tensor, Conv2dArgs, X)    \
  F(conv3d, Conv3dArgs, X)           \
  F(conv3d_depthwise, Conv3dArgs, X) \
  F(deform_taps, DeformTapsArgs, X)  \
  F(grid_sample, GridSampleArgs, X)  \
  F(group_norm, GroupNormArgs, X)    \
  F(layer_norm, LayerNormArgs, X)    \
  F(linear, LinearArgs, X)           \
  F(max_pool2d, Pool2dArgs, X)       \
  F(max_pool3d, Pool3dArgs, X)       \
  F(nms, NmsArgs, X)                 \
  F(ps_roi_pool, RoiArgs, X)         \
  F(resample, ResampleArgs, X)       \
  F(roi_align, RoiArgs, X)           \
  F(roi_pool, RoiArgs, X)            \
  F(roi_pool_argmax, RoiArgs, X)     \
  F(scan, ScanArgs, X)               \
  F(softmax, SoftmaxArgs, X)         \
  F(sum, ReduceArgs, X)              \
  F(unary, UnaryArgs, X)

#define KERNEL_OF_LEVEL(name, Args, X) void (*name)(const Args&, int64_t, int64_t);
struct Level {
  const char* name;
  SANITIZED_KERNELS(KERNEL_OF_LEVEL, )
  float* (*vec_operations)(const float*, const float*, const float*, int64_t, float*);
};

#define DECLARE_VEC_OPERATIONS(level)                                                           \
  namespace level {                                                                             \
  float* vec_operations(const float* a, const float* b, const float* c, int64_t count, float*); \
  }
DECLARE_VEC_OPERATIONS(scalar)
DECLARE_VEC_OPERATIONS(avx2)
DECLARE_VEC_OPERATIONS(avx512)
DECLARE_VEC_OPERATIONS(neon)
DECLARE_VEC_OPERATIONS(emulated16)

#define NAMED_KERNEL(name, Args, level) level::name,
#define LEVEL(level) \
  Level { #level, SANITIZED_KERNELS(NAMED_KERNEL, level) level::vec_operations }

inline std::vector<Level> levels() {
  std::vector<Level> found{LEVEL(scalar)};
#if defined(BNINV_HAVE_EMULATED16)
  found.push_back(LEVEL(emulated16));
#endif
#if defined(BNINV_HAVE_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(LEVEL(avx2));
#endif
#if defined(BNINV_HAVE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    found.push_back(LEVEL(avx512));
#endif
#if defined(BNINV_HAVE_NEON)
  found.push_back(LEVEL(neon));
#endif
  return found;
}

// Integers alone make the inputs, so every machine has the same. Each case starts from a seed of its
// own: a case more moves no other's digest.
inline std::mt19937 engine;

inline void seed_case(const char* name, int number) {
  uint32_t seed = 2166136261;
  for (; *name != 0; ++name) seed = (seed ^ static_cast<unsigned char>(*name)) * 16777619;
  engine.seed(seed + static_cast<uint32_t>(number));
}

inline int64_t between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(engine() % static_cast<uint32_t>(high - low + 1));
}
inline int64_t one_of(std::initializer_list<int64_t> values) {
  return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
}

inline size_t size_of(DType dtype) {
  return dtype == DType::kDouble ? 8 : dtype == DType::kFloat ? 4 : 2;
}

// Makes every NaN the one of all ones: sign and payload are free.
void canonicalize(void* elements, size_t size, DType dtype);

// For run.py's digests, if the driver was asked for them: what `level` gave, NaN canonical.
void record(const char* level, const char* name, DType dtype, const void* elements, size_t size);

// Counted over all files.
extern int cases, failures;

// Tasks [0, tasks) in up to three ranges, under settings of the caller's that must stay as they are.
template <typename Args, typename Member>
void run_level(const Level& level, Member kernel, const Args& args, int64_t tasks) {
  static std::mt19937 cuts(1);  // no digest may depend on the number of levels
  const auto cut = [&](int64_t from) {
    return from + static_cast<int64_t>(cuts() % static_cast<uint32_t>(tasks - from + 1));
  };
  const int64_t first = cut(0), second = cut(first);
  const HostileState state;
  {
    const FloatingPointScope scope;
    (level.*kernel)(args, 0, first);
    (level.*kernel)(args, first, second);
    (level.*kernel)(args, second, tasks);
  }
  if (state.intact()) return;
  std::fprintf(stderr, "case %d, level %s: the caller's floating-point settings changed\n", cases,
               level.name);
  ++failures;
}

}  // namespace bninv

// Each runs some cases of its operators, of random shapes and storage types.
void product_cases(int number);
void window_cases(int number);
void volume_cases(int number);
void typed_cases(int number);
void attention_cases(int number);
void nms_cases(int number);

// The vectors that kernels are written with.
void vec_case();
