// The instruction-set level the CPU kernels run at. Bits do not depend on it; speed does.
#pragma once

#include <cstdint>
#include <string>

namespace bninv {

enum class Capability { kScalar, kAvx2, kAvx512, kNeon };

// The best level this build and this machine have, or what BNINV_CPU_CAPABILITY names.
Capability capability();

// Floats in a vector of that level.
#if defined(BNINV_EMULATION)
inline int64_t vector_width() { return 1; }
#else
int64_t vector_width();
#endif

}  // namespace bninv

// The kernel's function at the level in use. Under tests/emulation there are CUDA kernels alone.
#if defined(BNINV_EMULATION)
#define BNINV_KERNEL(name) (nullptr)
#elif defined(BNINV_HAVE_AVX512) && defined(BNINV_HAVE_AVX2)
#define BNINV_KERNEL(name)                                                       \
  (::bninv::capability() == ::bninv::Capability::kAvx512 ? ::bninv::avx512::name \
   : ::bninv::capability() == ::bninv::Capability::kAvx2 ? ::bninv::avx2::name   \
                                                         : ::bninv::scalar::name)
#elif defined(BNINV_HAVE_AVX2)
#define BNINV_KERNEL(name)                                                   \
  (::bninv::capability() == ::bninv::Capability::kAvx2 ? ::bninv::avx2::name \
                                                       : ::bninv::scalar::name)
#elif defined(BNINV_HAVE_NEON)
#define BNINV_KERNEL(name)                                                   \
  (::bninv::capability() == ::bninv::Capability::kNeon ? ::bninv::neon::name \
                                                       : ::bninv::scalar::name)
#else
#define BNINV_KERNEL(name) (::bninv::scalar::name)
#endif
