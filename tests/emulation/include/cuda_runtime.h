// Stands in for CUDA's header of this name when kernels are compiled for the host.
//
// As nvcc does, the build includes this before anything else in a .cu file.
#pragma once

// Complete before __CUDACC__ is defined: the standard library has branches of its own for it.
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#if !defined(BNINV_EMULATION) || !defined(BNINV_EMULATED_ARCH)
#error "tests/emulation/build.py compiles for the emulation; it defines what these headers need"
#endif

#include "emulation/arithmetic.h"
#include "emulation/atomics.h"
#include "emulation/execution.h"
#include "emulation/memory.h"
#include "emulation/qualifiers.h"
#include "emulation/runtime_api.h"
#include "emulation/vector_types.h"
#include "emulation/warp.h"

// Host and device are one pass here, and both see these.
#define __CUDACC__ 1
#define __CUDA_ARCH__ BNINV_EMULATED_ARCH

// A failed assertion names block, thread and seed instead of ending the process.
#undef assert
#if defined(NDEBUG)
#define assert(condition) static_cast<void>(0)
#else
#define assert(condition)                              \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::bninv::emulation::fail("assertion failed: " #condition))
#endif
