// The instructions wgmma: 64 rows by a group of four warps, asynchronous, of 9.0 alone.
#pragma once

#include "mma.cuh"

namespace tensor_facts {

// Operands lie in shared memory without swizzling, k fastest: core matrices of 8 rows of 16 bytes,
// 128 bytes each, the two of one instruction's k (32 bytes) beside each other.
constexpr int kAlongK = 128, kAlongRows = 2 * kAlongK;

template <typename I>
__device__ __forceinline__ void store_operand(char* to, int row, int k, uint32_t pattern) {
  using Word = std::conditional_t<I::kTf32, uint32_t, uint16_t>;
  constexpr int kBytes = sizeof(Word), kChunk = 16 / kBytes;
  char* at = to + row / 8 * kAlongRows + k / kChunk * kAlongK + row % 8 * 16 + k % kChunk * kBytes;
  *reinterpret_cast<Word*>(at) = static_cast<Word>(pattern);
}

__device__ __forceinline__ uint64_t descriptor(const char* at) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(at));
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(kAlongK) >> 4 << 16 |
         static_cast<uint64_t>(kAlongRows) >> 4 << 32;
}

// Code for other architectures is compiled without these, and never launched.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// What was stored becomes visible to wgmma.
__device__ __forceinline__ void publish_operands() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#define WGMMA_N8_REGISTERS(kind, major)                                                        \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %9, 0; wgmma.mma_async.sync.aligned.m64n8" kind \
               " {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, p, 1, 1" major "; }"                        \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                \
               : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(b), "r"(add))
#define WGMMA_N8_SHARED(kind, majors)                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %6, 0; wgmma.mma_async.sync.aligned.m64n8" kind \
               " {%0,%1,%2,%3}, %4, %5, p, 1, 1" majors "; }"                                  \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                \
               : "l"(a), "l"(b), "r"(add))

// d = a * b, + d where `add`; A from shared memory, or from registers x.
template <typename I, bool kRegisters>
__device__ __forceinline__ void wgmma_n8(float (&d)[4], uint64_t a, const uint32_t (&x)[4],
                                         uint64_t b, int add) {
  if constexpr (std::is_same<I, F16K16>::value) {
    if constexpr (kRegisters) WGMMA_N8_REGISTERS("k16.f32.f16.f16", ", 0");
    if constexpr (!kRegisters) WGMMA_N8_SHARED("k16.f32.f16.f16", ", 0, 0");
  } else if constexpr (std::is_same<I, BF16K16>::value) {
    if constexpr (kRegisters) WGMMA_N8_REGISTERS("k16.f32.bf16.bf16", ", 0");
    if constexpr (!kRegisters) WGMMA_N8_SHARED("k16.f32.bf16.bf16", ", 0, 0");
  } else {
    if constexpr (kRegisters) WGMMA_N8_REGISTERS("k8.f32.tf32.tf32", "");
    if constexpr (!kRegisters) WGMMA_N8_SHARED("k8.f32.tf32.tf32", "");
  }
}
#undef WGMMA_N8_REGISTERS
#undef WGMMA_N8_SHARED

#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
#define D64(i) D16(i), D16(i + 16), D16(i + 32), D16(i + 48)
#define WGMMA_N256(kind, majors)                                                                   \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256" kind \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"          \
               "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,"          \
               "%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,"          \
               "%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,"          \
               "%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,"          \
               "%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,"          \
               "%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,"       \
               "%123,%124,%125,%126,%127}, %128, %129, p, 1, 1" majors "; }"                       \
               : D64(0), D64(64)                                                                   \
               : "l"(a), "l"(b), "r"(1))

// d += a * b, both from shared memory.
template <typename I>
__device__ __forceinline__ void wgmma_n256(float (&d)[128], uint64_t a, uint64_t b) {
  if constexpr (std::is_same<I, F16K16>::value) WGMMA_N256("k16.f32.f16.f16", ", 0, 0");
  if constexpr (std::is_same<I, BF16K16>::value) WGMMA_N256("k16.f32.bf16.bf16", ", 0, 0");
  if constexpr (std::is_same<I, TF32K8>::value) WGMMA_N256("k8.f32.tf32.tf32", "");
}
#undef WGMMA_N256
#undef D64
#undef D16
#undef D4

#endif

}  // namespace tensor_facts
