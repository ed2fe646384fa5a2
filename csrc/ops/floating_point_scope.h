// A thread's floating-point settings while a kernel runs (contract, R0).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace bninv {

// Round to nearest, subnormals kept, exceptions masked; the caller's settings are restored. A program
// may have switched flush-to-zero on for some of the threads. The kernel must be a call the compiler
// cannot inline, or arithmetic could move out of the scope.
class FloatingPointScope {
 public:
  FloatingPointScope() : saved_(read()) { write(kDefault); }
  ~FloatingPointScope() { write(saved_); }
  FloatingPointScope(const FloatingPointScope&) = delete;
  FloatingPointScope& operator=(const FloatingPointScope&) = delete;

 private:
#if defined(__x86_64__)
  using Register = uint32_t;
  static constexpr Register kDefault = 0x1f80;
  static Register read() { return _mm_getcsr(); }
  static void write(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = uint64_t;
  static constexpr Register kDefault = 0;
  static Register read() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void write(Register value) { asm volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else
#error "floating-point control is not known on this architecture"
#endif
  Register saved_;
};

}  // namespace bninv
