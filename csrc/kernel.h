// The declaration of a kernel: one line for every instruction-set level and for CUDA.
//
// A CPU kernel does the tasks [begin, end) of its operator, so that the caller may spread tasks over
// threads as it likes; the tasks' results do not depend on how. Callers hold a FloatingPointScope. A
// CUDA kernel is launched on `stream` (a cudaStream_t) of the current device and never waited for; it
// allocates nothing, may be captured into a graph, and throws errors. Both are given one structure: raw
// pointers, sizes and strides in elements, no torch.
#pragma once

#include <cstdint>

#include "types.h"

// What this build has beside the baseline.
#if defined(BNINV_HAVE_AVX2)
#define BNINV_AT_AVX2(F, ...) F(avx2, __VA_ARGS__)
#else
#define BNINV_AT_AVX2(F, ...)
#endif
#if defined(BNINV_HAVE_AVX512)
#define BNINV_AT_AVX512(F, ...) F(avx512, __VA_ARGS__)
#else
#define BNINV_AT_AVX512(F, ...)
#endif
#if defined(BNINV_HAVE_NEON)
#define BNINV_AT_NEON(F, ...) F(neon, __VA_ARGS__)
#else
#define BNINV_AT_NEON(F, ...)
#endif
#if defined(BNINV_HAVE_EMULATED16)  // tests/sanitize
#define BNINV_AT_EMULATED16(F, ...) F(emulated16, __VA_ARGS__)
#else
#define BNINV_AT_EMULATED16(F, ...)
#endif

#define BNINV_AT_EVERY_LEVEL(F, ...) \
  F(scalar, __VA_ARGS__)             \
  BNINV_AT_AVX2(F, __VA_ARGS__)      \
  BNINV_AT_AVX512(F, __VA_ARGS__)    \
  BNINV_AT_NEON(F, __VA_ARGS__)      \
  BNINV_AT_EMULATED16(F, __VA_ARGS__)

#define BNINV_DECLARE_AT(level, name, Args)                \
  namespace level {                                        \
  void name(const Args& args, int64_t begin, int64_t end); \
  }

// In namespace bninv, behind the structure.
#define BNINV_DECLARE_KERNEL(name, Args)             \
  BNINV_AT_EVERY_LEVEL(BNINV_DECLARE_AT, name, Args) \
  namespace cuda {                                   \
  void name(const Args& args, void* stream);         \
  }
