// What kernels use of tensor cores, and shared memory by its 32-bit address, which is what their
// instructions take. tests/emulation gives the same names on the host.
//
// Fragments are spread over a warp as the PTX ISA says of mma.m16n8k16 (float16, bfloat16) and m16n8k8
// (TF32): of lane 4 g + t, `a` holds rows g and g + 8, `b` column g, and the sums rows g and g + 8,
// columns 2 t and 2 t + 1. One instruction takes one of R9's groups of terms, 32 bytes of a row.
#pragma once

#include "../types.h"
#include "device.cuh"

#if defined(BNINV_EMULATION)
// By its place beside this file: a folder with planted faults has headers of its own.
#include "../tensor_block.h"
#include "emulated_tensor_core.h"
#else

namespace bninv {
namespace cuda {

// The dynamic shared memory of a block; aligned so that bits 4 to 6 of an address are a chunk's number.
__device__ __forceinline__ unsigned char* tensor_memory() {
  extern __shared__ __align__(128) unsigned char bninv_tensor_shared[];
  return bninv_tensor_shared;
}
// Addresses from here on are counted from its start.
__device__ __forceinline__ uint32_t tensor_address() {
  return static_cast<uint32_t>(__cvta_generic_to_shared(tensor_memory()));
}

// copy_async of 16 bytes, to an address.
__device__ __forceinline__ void copy_chunk(uint32_t shared, const void* global, bool exists) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(exists ? 16 : 0)
               : "memory");
#endif
}

__device__ __forceinline__ void store_chunk(uint32_t shared, uint4 value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// Two or four words, aligned to as many.
__device__ __forceinline__ void load_words(uint32_t (&words)[2], uint32_t shared) {
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(shared)
               : "memory");
}
__device__ __forceinline__ void load_words(uint32_t (&words)[4], uint32_t shared) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared)
               : "memory");
}

// Four matrices of 8 rows of 16 bytes; lane 8 i + r names row r of matrix i, and lane 4 g + t gets word t
// of row g of each.
__device__ __forceinline__ void load_matrices(uint32_t (&words)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(row)
               : "memory");
}
// The same of 16-bit elements, transposed: lane 4 g + t gets column g of rows 2 t and 2 t + 1.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&words)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(row)
               : "memory");
}

// sums = (first ? +0 : sums) + a b, of operands of type T; of float, as TF32, the low 13 bits are not
// looked at.
#if __CUDA_ARCH__ >= 800
#define BNINV_MMA(shape, type)                                                      \
  if (first)                                                                        \
    asm("mma.sync.aligned." shape ".row.col.f32." type "." type                     \
        ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"  \
        : "=f"(sums[0]), "=f"(sums[1]), "=f"(sums[2]), "=f"(sums[3])                \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f)); \
  else                                                                              \
    asm("mma.sync.aligned." shape ".row.col.f32." type "." type                     \
        ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"      \
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
#else
#define BNINV_MMA(shape, type) __trap()
#endif

template <typename T>
__device__ __forceinline__ void tensor_multiply(float (&sums)[4], const uint32_t (&a)[4],
                                                uint32_t b0, uint32_t b1, bool first);
template <>
__device__ __forceinline__ void tensor_multiply<Half>(float (&sums)[4], const uint32_t (&a)[4],
                                                      uint32_t b0, uint32_t b1, bool first) {
  BNINV_MMA("m16n8k16", "f16");
}
template <>
__device__ __forceinline__ void tensor_multiply<BFloat16>(float (&sums)[4], const uint32_t (&a)[4],
                                                          uint32_t b0, uint32_t b1, bool first) {
  BNINV_MMA("m16n8k16", "bf16");
}
template <>
__device__ __forceinline__ void tensor_multiply<float>(float (&sums)[4], const uint32_t (&a)[4],
                                                       uint32_t b0, uint32_t b1, bool first) {
  BNINV_MMA("m16n8k8", "tf32");
}
#undef BNINV_MMA

}  // namespace cuda
}  // namespace bninv

#endif

namespace bninv {
namespace cuda {

// R9's rounding of binary32 to 10 fraction bits, half away from zero, but for the low 13 bits, at which
// no instruction looks. Infinities stay by themselves. A NaN may be all in the low bits, or all ones.
__device__ __forceinline__ uint32_t rounded_to_tf32(uint32_t bits) {
  const float x = __uint_as_float(bits);
  return x != x ? 0x7fffffffu : bits + 0x1000u;  // three instructions; by integers it is four
}

}  // namespace cuda
}  // namespace bninv
