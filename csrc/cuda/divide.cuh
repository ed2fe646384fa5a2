// Division of indices by a number that a whole launch shares: a multiplication, where 64-bit division
// is a subroutine of a hundred instructions.
#pragma once

#include <stdexcept>
#include <string>

#include "device.cuh"

namespace bninv {
namespace cuda {

// n / divisor, rounded down, is n * inverse / 2^64 with inverse = 2^64 / divisor rounded up: exact as
// long as n * divisor is below 2^64, which check_divisions makes sure of.
struct Divider {
  int64_t divisor;
  uint64_t inverse;  // 0 stands for 2^64

  Divider() = default;
  __host__ __device__ __forceinline__ explicit Divider(int64_t d)
      : divisor(d), inverse(d > 1 ? UINT64_MAX / static_cast<uint64_t>(d) + 1 : 0) {}

  __device__ __forceinline__ int64_t quotient(int64_t n) const {
    if (inverse == 0) return n;
    return static_cast<int64_t>(__umul64hi(static_cast<uint64_t>(n), inverse));
  }
  // n becomes the quotient; returns the remainder.
  __device__ __forceinline__ int64_t divide(int64_t& n) const {
    const int64_t q = quotient(n), remainder = n - q * divisor;
    n = q;
    return remainder;
  }
};

// Throws unless numbers up to `most` may be divided by numbers up to `divisor`. On a GPU of 2^37 bytes
// that takes a dimension of more than 2^27 elements.
inline void check_divisions(const char* op, int64_t most, int64_t divisor) {
  if (divisor > 0 && static_cast<uint64_t>(most) > UINT64_MAX / static_cast<uint64_t>(divisor))
    throw std::runtime_error(std::string("bninv.") + op + ": indices up to " +
                             std::to_string(most) + " cannot be divided by " +
                             std::to_string(divisor));
}

}  // namespace cuda
}  // namespace bninv
