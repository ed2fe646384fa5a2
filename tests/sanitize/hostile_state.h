// A thread's floating-point settings as a program may leave them: a kernel must neither notice nor
// change them (contract, R0).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace bninv {

// Everything that changes a result is switched on from here to the end of the scope: rounding upward,
// flushing subnormals, and on aarch64 default NaNs and the half-precision format without infinities.
class HostileState {
 public:
  HostileState() : saved_(read()) {
    write(kHostile);
    written_ = read();
  }
  ~HostileState() { write(saved_); }
  HostileState(const HostileState&) = delete;
  HostileState& operator=(const HostileState&) = delete;

  bool intact() const { return read() == written_; }

 private:
#if defined(__x86_64__)
  using Register = uint32_t;
  static constexpr Register kHostile = 0x1f80 | 0x8000 | 0x4000 | 0x0040;  // FTZ, upward, DAZ
  static Register read() { return _mm_getcsr(); }
  static void write(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = uint64_t;
  // AHP, DN, FZ, upward, FZ16
  static constexpr Register kHostile = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 22 | 1 << 19;
  static Register read() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void write(Register value) { asm volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else
#error "floating-point control is not known on this architecture"
#endif
  Register saved_, written_;
};

}  // namespace bninv
