// Atomics. Threads run one at a time, so each is the plain operation.
#pragma once

#include <cstdint>

#include "emulation.h"

namespace bninv {
namespace emulation {

template <typename T, typename Operation>
T atomic(T* address, Operation operation) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) fail("an atomic is misaligned");
  const T old = *address;
  *address = operation(old);
  return old;
}

}  // namespace emulation
}  // namespace bninv

// The overloads that CUDA has, so that no others compile.
#define BNINV_ATOMIC(name, T, expression)                                                 \
  inline T name(T* address, T value) {                                                    \
    return bninv::emulation::atomic(address, [value](T old) -> T { return expression; }); \
  }
#define BNINV_ATOMIC_INTEGERS(name, expression) \
  BNINV_ATOMIC(name, int, expression)           \
  BNINV_ATOMIC(name, unsigned, expression)      \
  BNINV_ATOMIC(name, unsigned long long, expression)

BNINV_ATOMIC_INTEGERS(atomicAdd, old + value)
BNINV_ATOMIC(atomicAdd, float, old + value)
BNINV_ATOMIC(atomicAdd, double, old + value)
BNINV_ATOMIC(atomicSub, int, old - value)
BNINV_ATOMIC(atomicSub, unsigned, old - value)
BNINV_ATOMIC_INTEGERS(atomicExch, ((void)old, value))
BNINV_ATOMIC(atomicExch, float, ((void)old, value))
BNINV_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
BNINV_ATOMIC(atomicMin, long long, value < old ? value : old)
BNINV_ATOMIC_INTEGERS(atomicMax, old < value ? value : old)
BNINV_ATOMIC(atomicMax, long long, old < value ? value : old)
BNINV_ATOMIC_INTEGERS(atomicAnd, old& value)
BNINV_ATOMIC_INTEGERS(atomicOr, old | value)
BNINV_ATOMIC_INTEGERS(atomicXor, old ^ value)

#undef BNINV_ATOMIC_INTEGERS
#undef BNINV_ATOMIC

#define BNINV_ATOMIC_CAS(T)                                                         \
  inline T atomicCAS(T* address, T compare, T value) {                              \
    return bninv::emulation::atomic(                                                \
        address, [compare, value](T old) { return old == compare ? value : old; }); \
  }
BNINV_ATOMIC_CAS(int)
BNINV_ATOMIC_CAS(unsigned)
BNINV_ATOMIC_CAS(unsigned long long)
BNINV_ATOMIC_CAS(unsigned short)
#undef BNINV_ATOMIC_CAS
