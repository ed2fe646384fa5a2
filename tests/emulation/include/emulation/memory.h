// Loads and stores with cache hints, which say nothing about values but demand alignment.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>
#include <string>

#include "emulation.h"

namespace bninv {
namespace emulation {

inline void check_aligned(const void* p, size_t bytes, const char* name,
                          std::source_location where) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
    fail(std::string(name) + " of " + std::to_string(bytes) + " bytes at a misaligned address",
         where);
}

}  // namespace emulation
}  // namespace bninv

#define BNINV_LOAD(name)                                                             \
  template <typename T>                                                              \
  T name(const T* p, std::source_location where = std::source_location::current()) { \
    bninv::emulation::check_aligned(p, sizeof(T), #name, where);                     \
    return *p;                                                                       \
  }
#define BNINV_STORE(name)                                                                  \
  template <typename T>                                                                    \
  void name(T* p, T value, std::source_location where = std::source_location::current()) { \
    bninv::emulation::check_aligned(p, sizeof(T), #name, where);                           \
    *p = value;                                                                            \
  }

BNINV_LOAD(__ldg)
BNINV_LOAD(__ldca)
BNINV_LOAD(__ldcg)
BNINV_LOAD(__ldcs)
BNINV_LOAD(__ldlu)
BNINV_LOAD(__ldcv)
BNINV_STORE(__stwb)
BNINV_STORE(__stcg)
BNINV_STORE(__stcs)
BNINV_STORE(__stwt)

#undef BNINV_LOAD
#undef BNINV_STORE
