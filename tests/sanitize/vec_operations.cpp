// Every operation of a level's vectors, lane by lane: a kernel may never show what one does with a
// zero's sign or a NaN's payload, until the next kernel is written. Compiled once a level.
#include "cpu/vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// Writes `count` results of each operation, `count` a multiple of 16, and returns where they end.
float* vec_operations(const float* a, const float* b, const float* c, int64_t count,
                      float* results) {
  const auto each = [&](auto operation) {
    for (int64_t i = 0; i < count; i += kWidth)
      Vec(operation(Vec::load(a + i), Vec::load(b + i), Vec::load(c + i))).store(results + i);
    results += count;
  };
  const auto each_mask = [&](auto comparison) {
    each([&](Vec x, Vec y, Vec z) { return select(comparison(x, y), z, Vec(-1.5f)); });
    each([&](Vec x, Vec, Vec z) { return select(comparison(x, x), Vec(-0.0f), z); });
  };
  // Of numbers of 23 bits: a sum of patterns must not overflow.
  const auto each_integer = [&](auto operation) {
    each([&](Vec x, Vec y, Vec) {
      return from_bits(operation(to_bits(x) & 0x7fffff, to_bits(y) & 0x7fffff));
    });
  };
  each([](Vec x, Vec y, Vec) { return x + y; });
  each([](Vec x, Vec y, Vec) { return x - y; });
  each([](Vec x, Vec, Vec) { return -x; });
  each([](Vec x, Vec y, Vec) { return x * y; });
  each([](Vec x, Vec y, Vec) { return x / y; });
  each([](Vec x, Vec y, Vec z) { return fma(x, y, z); });
  // Two roundings, though a compiler may like to fuse them.
  each([](Vec x, Vec y, Vec z) { return x * y + z; });
  each([](Vec x, Vec y, Vec z) { return z - x * y; });
  each([](Vec x, Vec, Vec) { return sqrt(x); });
  each([](Vec x, Vec, Vec) { return abs(x); });
  each([](Vec x, Vec y, Vec) { return maximum(x, y); });
  each([](Vec, Vec, Vec) { return Vec::zero(); });
  each_mask([](Vec x, Vec y) { return x > y; });
  each_mask([](Vec x, Vec y) { return x >= y; });
  each_mask([](Vec x, Vec y) { return x < y; });
  each_mask([](Vec x, Vec y) { return x <= y; });
  each_mask([](Vec x, Vec y) { return x == y; });
  each_mask([](Vec x, Vec y) { return x != y; });
  each_integer([](auto x, auto y) { return x + y; });
  each_integer([](auto x, auto y) { return x - y; });
  each_integer([](auto x, auto y) { return x & y; });
  each_integer([](auto x, auto y) { return x | y; });
  each_integer([](auto x, auto y) { return x ^ y; });
  each_integer([](auto x, auto) { return ~x; });
  each_integer([](auto x, auto) { return x << 7; });
  each_integer([](auto x, auto y) { return (x - y) >> 3; });
  each([](Vec x, Vec, Vec) { return rounded_lanes<Half>(x); });
  each([](Vec x, Vec, Vec) { return rounded_lanes<BFloat16>(x); });
  // Through memory, whole and in part.
  const auto each_stored = [&](auto type) {
    using T = decltype(type);
    constexpr int kPart = kWidth < 3 ? kWidth : 3;
    T memory[kWidth];
    each([&](Vec x, Vec, Vec) {
      store(memory, x);
      return load(memory);
    });
    for (int64_t i = 0; i < count; i += kPart) {
      const int64_t part = count - i < kPart ? count - i : kPart;
      const Vec x = Vec::load_partial(a + i, part);
      store_partial<T>(memory, x, part);
      load_partial<T>(memory, part).store_partial(results + i, part);
    }
    results += count;
  };
  each_stored(0.0f);
  each_stored(Half{});
  each_stored(BFloat16{});
  return results;
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
