// Experiment: what the probe's kernels use of the hardware; the emulation's versions beside them.
// Shared memory is named by 32-bit addresses; base() is a multiple of 1024.
#pragma once
#include <cstddef>
#include <cstdint>
#include "cuda/device.cuh"
#include "cuda/launch.cuh"

namespace probe {
#if defined(BNINV_EMULATION)
#define PROBE_FN inline
namespace em {
inline int lane() { return bninv::emulation::lane(); }
template <typename T>
T shfl(T v, int l) {
  return __shfl_sync(0xffffffffu, v, l);
}
inline char* at(uint32_t a) { return bninv::cuda::dynamic_shared<char>() + a; }
inline float block(const float* a, const float* b, int n, float c, int bits, int emin, int floor_) {
  auto expo = [](float x, int lo) {
    int e;
    if (x == 0) return -1000000;
    std::frexp(x, &e);
    return e - 1 < lo ? lo : e - 1;
  };
  int top = floor_ > expo(c, -126) ? floor_ : expo(c, -126);
  for (int i = 0; i < n; ++i)
    if (a[i] != 0 && b[i] != 0) {
      int e = expo(a[i], emin) + expo(b[i], emin);
      if (e > top) top = e;
    }
  double sum = std::trunc(std::ldexp(double(c), bits - top));
  for (int i = 0; i < n; ++i) sum += std::trunc(std::ldexp(double(a[i]) * b[i], bits - top));
  int e;
  std::frexp(sum, &e);
  int ulp = e - 24 + top - bits;
  if (ulp < -149) ulp = -149;
  return float(std::ldexp(std::trunc(std::ldexp(sum, top - bits - ulp)), ulp));
}
inline float f(uint32_t x) {
  float r;
  memcpy(&r, &x, 4);
  return r;
}
}  // namespace em
inline uint32_t base() { return 0; }
inline void cp16(uint32_t s, const void* g, bool ok) {
  bninv::cuda::copy_async<16>(em::at(s), g, ok);
}
inline void cp_commit() { bninv::cuda::copy_async_commit(); }
template <int N>
void cp_wait() {
  bninv::cuda::copy_async_wait<N>();
}
inline void ldsm4(uint32_t (&r)[4], uint32_t p) {
  for (int i = 0; i < 4; ++i) {
    uint32_t from = em::shfl(p, i * 8 + em::lane() / 4);
    if (from % 16) throw std::runtime_error("ldmatrix misaligned");
    memcpy(&r[i], em::at(from) + em::lane() % 4 * 4, 4);
  }
}
inline void ldsm4t(uint32_t (&r)[4], uint32_t p) {
  for (int i = 0; i < 4; ++i) {
    uint16_t v[2];
    for (int h = 0; h < 2; ++h) {
      uint32_t from = em::shfl(p, i * 8 + em::lane() % 4 * 2 + h);
      if (from % 16) throw std::runtime_error("ldmatrix misaligned");
      memcpy(&v[h], em::at(from) + em::lane() / 4 * 2, 2);
    }
    r[i] = v[0] | uint32_t(v[1]) << 16;
  }
}
template <bool kTF32>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool first) {
  const int l = em::lane(), g = l / 4, t = l % 4;
  float A[2][16], B[2][16];
  constexpr int n = kTF32 ? 8 : 16;
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < 4; ++i) {
      uint32_t v = em::shfl(a[i], g * 4 + q);
      if (kTF32)
        A[i % 2][i / 2 * 4 + q] = em::f(v & 0xffffe000u);
      else
        A[i % 2][i / 2 * 8 + q * 2] = em::f(v << 16),
                                 A[i % 2][i / 2 * 8 + q * 2 + 1] = em::f(v & 0xffff0000u);
    }
  for (int j = 0; j < 2; ++j)
    for (int q = 0; q < 4; ++q)
      for (int h = 0; h < 2; ++h) {
        uint32_t v = em::shfl(h ? b1 : b0, (t * 2 + j) * 4 + q);
        if (kTF32)
          B[j][h * 4 + q] = em::f(v & 0xffffe000u);
        else
          B[j][h * 8 + q * 2] = em::f(v << 16), B[j][h * 8 + q * 2 + 1] = em::f(v & 0xffff0000u);
      }
  for (int i = 0; i < 4; ++i)
    d[i] = em::block(A[i / 2], B[i % 2], n, first ? 0.0f : d[i], 25, -126, -133);
}
inline void st4(uint32_t s, uint32_t v) { memcpy(em::at(s), &v, 4); }
inline void st8(uint32_t s, float a, float b) {
  memcpy(em::at(s), &a, 4);
  memcpy(em::at(s) + 4, &b, 4);
}
inline uint4 ld16(uint32_t s) {
  uint4 v;
  memcpy(&v, em::at(s), 16);
  return v;
}
inline uint32_t pack_bf16(float lo, float hi) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(lo)) |
         uint32_t(__bfloat16_as_ushort(__float2bfloat16_rn(hi))) << 16;
}
#else
#define PROBE_FN __device__ __forceinline__
__device__ __forceinline__ uint32_t base() {
  extern __shared__ __align__(1024) unsigned char probe_shared[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(probe_shared));
}
__device__ __forceinline__ void cp16(uint32_t s, const void* g, bool ok) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(s), "l"(g), "r"(ok ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void cp_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ void ldsm4(uint32_t (&r)[4], uint32_t p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(p)
               : "memory");
}
__device__ __forceinline__ void ldsm4t(uint32_t (&r)[4], uint32_t p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(p)
               : "memory");
}
template <bool kTF32>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                    bool first) {
  if constexpr (kTF32) {
    if (first)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%10,%10,%10,%10};"
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
    else
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%0,%1,%2,%3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    if (first)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%10,%10,%10,%10};"
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
    else
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%0,%1,%2,%3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}
__device__ __forceinline__ void st4(uint32_t s, uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(s), "r"(v) : "memory");
}
__device__ __forceinline__ void st8(uint32_t s, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(s), "f"(a), "f"(b) : "memory");
}
__device__ __forceinline__ uint4 ld16(uint32_t s) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(s)
               : "memory");
  return v;
}
__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
  uint32_t u;
  memcpy(&u, &v, 4);
  return u;
}
#endif
}  // namespace probe
