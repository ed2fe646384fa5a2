// The helpers of csrc/cuda/tensor_core.cuh on the host; included there, where each is described.
//
// All lanes of a warp must meet at each of them. The arithmetic is csrc/tensor_block.h's, of the class
// that the emulated device's architecture has.
#pragma once

#include <source_location>

#include "emulation/shared_memory.h"

namespace bninv {
namespace emulation {

struct Fragments {
  uint32_t a[4], b[2], row;
};

// What every lane of this warp brings, as the others see it between the two meetings.
inline Fragments* warp_fragments() {
  static Fragments fragments[1024];
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return fragments + thread / 32 * 32;
}

inline void meet(const char* name, std::source_location where) {
  warp_vote(name, 0xffffffffu, false, where);
}

inline unsigned char* shared_at(uint32_t address, unsigned bytes, const char* name,
                                std::source_location where) {
  auto* p = static_cast<unsigned char*>(dynamic_shared()) + address;
  check_aligned(p, bytes, name, where);
  return p;
}

// The patterns of a fragment's word: one of TF32, two of 16 bits.
template <typename T>
void unpack_word(uint32_t word, uint32_t* patterns) {
  if constexpr (sizeof(T) == 4)
    patterns[0] = word >> 13;
  else
    patterns[0] = word & 0xffff, patterns[1] = word >> 16;
}

template <typename T>
struct OperandOf {
  using Type = cuda::Tf32Operand;
};
template <>
struct OperandOf<Half> {
  using Type = cuda::HalfOperand;
};
template <>
struct OperandOf<BFloat16> {
  using Type = cuda::BFloat16Operand;
};

}  // namespace emulation

namespace cuda {

inline unsigned char* tensor_memory() { return dynamic_shared<unsigned char>(); }
inline uint32_t tensor_address() { return 0; }

inline void copy_chunk(uint32_t shared, const void* global, bool exists,
                       std::source_location where = std::source_location::current()) {
  copy_async<16>(tensor_memory() + shared, global, exists, where);
}

inline void store_chunk(uint32_t shared, uint4 value,
                        std::source_location where = std::source_location::current()) {
  memcpy(emulation::shared_at(shared, 16, "store_chunk", where), &value, sizeof(value));
}

template <size_t kWords>
void load_words(uint32_t (&words)[kWords], uint32_t shared,
                std::source_location where = std::source_location::current()) {
  memcpy(words, emulation::shared_at(shared, 4 * kWords, "load_words", where), 4 * kWords);
}

inline void load_matrices(uint32_t (&words)[4], uint32_t row,
                          std::source_location where = std::source_location::current()) {
  constexpr const char* kName = "load_matrices";
  emulation::Fragments* warp = emulation::warp_fragments();
  const unsigned lane = static_cast<unsigned>(emulation::lane());
  warp[lane].row = row;
  emulation::meet(kName, where);
  for (unsigned i = 0; i < 4; ++i)
    memcpy(&words[i],
           emulation::shared_at(warp[i * 8 + lane / 4].row, 16, kName, where) + lane % 4 * 4, 4);
  emulation::meet(kName, where);
}

inline void load_matrices_transposed(uint32_t (&words)[4], uint32_t row,
                                     std::source_location where = std::source_location::current()) {
  constexpr const char* kName = "load_matrices_transposed";
  emulation::Fragments* warp = emulation::warp_fragments();
  const unsigned lane = static_cast<unsigned>(emulation::lane());
  warp[lane].row = row;
  emulation::meet(kName, where);
  for (unsigned i = 0; i < 4; ++i) {
    uint16_t pair[2];
    for (unsigned h = 0; h < 2; ++h)
      memcpy(
          &pair[h],
          emulation::shared_at(warp[i * 8 + lane % 4 * 2 + h].row, 16, kName, where) + lane / 4 * 2,
          2);
    words[i] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
  emulation::meet(kName, where);
}

template <typename T>
void tensor_multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool first,
                     std::source_location where = std::source_location::current()) {
  using Operand = typename emulation::OperandOf<T>::Type;
  constexpr unsigned kInWord = sizeof(T) == 4 ? 1 : 2;
  const TensorClass rule = emulation::settings().arch >= 900 ? kTensorH : kTensorA;
  if (emulation::settings().arch < 800) emulation::fail("an architecture without this mma", where);
  emulation::Fragments* warp = emulation::warp_fragments();
  const unsigned lane = static_cast<unsigned>(emulation::lane()), g = lane / 4, t = lane % 4;
  emulation::Fragments& mine = warp[lane];
  memcpy(mine.a, a, sizeof(a));
  mine.b[0] = b0, mine.b[1] = b1;
  emulation::meet("tensor_multiply", where);
  uint32_t rows[2][Operand::kGroup], columns[2][Operand::kGroup];
  for (unsigned half = 0; half < 2; ++half)
    for (unsigned q = 0; q < 4; ++q) {
      const unsigned k = (half * 4 + q) * kInWord;
      for (unsigned i = 0; i < 2; ++i) {
        emulation::unpack_word<T>(warp[g * 4 + q].a[half * 2 + i], &rows[i][k]);
        emulation::unpack_word<T>(warp[(t * 2 + i) * 4 + q].b[half], &columns[i][k]);
      }
    }
  for (int i = 0; i < 4; ++i) {
    uint32_t sum = 0;
    if (!first) memcpy(&sum, &sums[i], sizeof(sum));
    sum = tensor_multiply_add<Operand>(rows[i / 2], columns[i % 2], Operand::kGroup, sum, rule);
    memcpy(&sums[i], &sum, sizeof(sum));
  }
  emulation::meet("tensor_multiply", where);
}

}  // namespace cuda
}  // namespace bninv
