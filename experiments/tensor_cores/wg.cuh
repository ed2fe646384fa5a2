// Experiment: the same convolution by wgmma (sm_90a). cp.async by all threads, 128-byte swizzled K-major
// operands, promotion every 128 terms. kTwo: two sets of sums, so that one is added while the other runs.
// kRs: TF32 with A through registers, where it is rounded; B is rounded before it is stored.
#pragma once
#include "conv.cuh"
#include "wgmma_ops.cuh"
namespace probe {

#if defined(BNINV_EMULATION)
inline void wg_fence() {}
inline void wg_commit() {}
template <int N>
void wg_wait() {}
inline void proxy_fence() {}
template <int NI>
void keep(float (&)[1][NI][4]) {}
#else
PROBE_FN void wg_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PROBE_FN void wg_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
PROBE_FN void wg_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
PROBE_FN void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int NI>
PROBE_FN void keep(float (&d)[1][NI][4]) {
#pragma unroll
  for (int j = 0; j < NI; ++j)
#pragma unroll
    for (int l = 0; l < 4; ++l) asm volatile("" : "+f"(d[0][j][l])::"memory");
}
#endif
PROBE_FN uint64_t descriptor(uint32_t address) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) |
         (1ull << 62);
}

template <bool TF32_, int WG_, int BN_, int S_, int MB_, bool Two_ = false, bool Seg_ = true,
          bool Rs_ = false>
struct WgCfg {
  static constexpr bool TF32 = TF32_, KN = false, Seg = Seg_, Two = Two_, Rs = Rs_,
                        Round = TF32_ && Rs_;
  static constexpr int BM = 64 * WG_, BN = BN_, S = S_, MB = MB_, T = 128 * WG_;
  static constexpr int kABytes = BM * 128, kBBytes = BN * 128, kStage = kABytes + kBBytes;
  static constexpr int kSps = TF32 ? 4 : 2, kEl = TF32 ? 4 : 2;
  static constexpr int kOutPitch = BN * kEl + (TF32 ? 32 : 16);
  static constexpr int kShared = kStage * S > BM* kOutPitch ? kStage * S : BM * kOutPitch;
  static_assert(S >= 3);
};

template <class C, Src kSrc>
__global__ void __launch_bounds__(C::T, C::MB) conv_wg(const Args a) {
  constexpr int NI = C::BN / 8;
  const int kbytes = a.r * a.s * a.pixel;
  const int columns = (a.o + C::BN - 1) / C::BN;
  const int col0 = blockIdx.x % columns * C::BN, row0 = blockIdx.x / columns * C::BM;
  const int steps = (kbytes + 127) / 128;
  Loader<C, kSrc> load(a, row0, col0, 0);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint64_t da = descriptor(base() + warp / 4 * 8192), db = descriptor(base() + C::kABytes);
  const uint32_t from_a =
      base() + (warp * 16 + lane % 16) * 128 + (((lane / 16) ^ (lane & 7)) << 4);
  float acc[C::Two ? 2 : 1][1][NI][4], total[C::Seg ? 1 : 1][C::Seg ? NI : 1][4];
#pragma unroll
  for (int t = 0; t < (C::Two ? 2 : 1); ++t)
#pragma unroll
    for (int j = 0; j < NI; ++j)
#pragma unroll
      for (int l = 0; l < 4; ++l) acc[t][0][j][l] = 0;
  if constexpr (C::Seg) {
#pragma unroll
    for (int j = 0; j < NI; ++j)
#pragma unroll
      for (int l = 0; l < 4; ++l) total[0][j][l] = 0;
  }
#pragma unroll
  for (int i = 0; i < C::S - 2; ++i) {
    if (i < steps) load.start(i * C::kStage);
    cp_commit();
  }
  uint32_t read = 0, write = (C::S - 2) * C::kStage;
  int step = 0;
  uint32_t fa[C::Rs ? 2 : 1][4][4];
  // One step of 128 bytes of k: its products start, and the copies of the step S - 2 ahead.
  const auto issue = [&](float (&d)[1][NI][4], bool first, int parity) {
    cp_wait<C::S - 3>();
    proxy_fence();
    __syncthreads();
    if constexpr (C::Rs) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        ldsm4(fa[parity][k], (from_a + read) ^ (k << 5));
#pragma unroll
        for (int l = 0; l < 4; ++l) fa[parity][k][l] += 0x1000u;
      }
    }
    keep(d);
    wg_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint64_t b = db + (read >> 4) + k * 2, at = da + (read >> 4) + k * 2;
      const int more = !(first && k == 0);
      if constexpr (C::Rs)
        wgmma_tf32(d, fa[parity][k], b, more);
      else if constexpr (C::TF32)
        wgmma_tf32(d, at, b, more);
      else
        wgmma_bf16(d, at, b, more);
    }
    wg_commit();
    if (step + C::S - 2 < steps) load.start(write);
    cp_commit();
    write = write == (C::S - 1) * C::kStage ? 0 : write + C::kStage;
    read = read == (C::S - 1) * C::kStage ? 0 : read + C::kStage;
    ++step;
  };
  const auto add = [&](float (&d)[1][NI][4]) {
    if constexpr (C::Seg) {
      keep(d);
#pragma unroll
      for (int j = 0; j < NI; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) total[0][j][l] += d[0][j][l];
    }
  };
  if constexpr (!C::Seg) {
    while (step < steps) {
      issue(acc[0], false, 0);
      wg_wait<1>();
    }
    wg_wait<0>();
    keep(acc[0]);
  } else if constexpr (!C::Two) {
    while (step < steps) {
#pragma unroll
      for (int u = 0; u < C::kSps; ++u) {
        if (u > 0 && step >= steps) break;
        issue(acc[0], u == 0, u & 1);
        if (u + 1 < C::kSps) wg_wait<1>();
      }
      wg_wait<0>();
      add(acc[0]);
    }
  } else {
    for (int pairs = steps / (2 * C::kSps); pairs > 0; --pairs) {
#pragma unroll
      for (int u = 0; u < C::kSps; ++u) {
        issue(acc[0], u == 0, u & 1);
        wg_wait<1>();
        if (u == 0) add(acc[1]);
      }
#pragma unroll
      for (int u = 0; u < C::kSps; ++u) {
        issue(acc[1], u == 0, u & 1);
        wg_wait<1>();
        if (u == 0) add(acc[0]);
      }
    }
    wg_wait<0>();
    add(acc[1]);
    while (step < steps) {
#pragma unroll
      for (int u = 0; u < C::kSps; ++u) {
        if (u > 0 && step >= steps) break;
        issue(acc[0], u == 0, u & 1);
        if (u + 1 < C::kSps) wg_wait<1>();
      }
      wg_wait<0>();
      add(acc[0]);
    }
  }
  cp_wait<0>();
  __syncthreads();
  if constexpr (C::Seg)
    write_tile<C>(a, total, row0, col0, warp * 16, 0);
  else
    write_tile<C>(a, acc[0], row0, col0, warp * 16, 0);
}

// Sums in two halves of the columns: one half's are added while the other half's products run.
template <class C, Src kSrc>
__global__ void __launch_bounds__(C::T, C::MB) conv_wg_half(const Args a) {
  constexpr int NI = C::BN / 16;
  static_assert(!C::TF32);
  const int kbytes = a.r * a.s * a.pixel;
  const int columns = (a.o + C::BN - 1) / C::BN;
  const int col0 = blockIdx.x % columns * C::BN, row0 = blockIdx.x / columns * C::BM;
  const int steps = (kbytes + 127) / 128;
  Loader<C, kSrc> load(a, row0, col0, 0);
  const int warp = threadIdx.x / 32;
  const uint64_t da = descriptor(base() + warp / 4 * 8192), db = descriptor(base() + C::kABytes);
  float acc0[1][NI][4], acc1[1][NI][4], total0[1][NI][4], total1[1][NI][4];
#pragma unroll
  for (int j = 0; j < NI; ++j)
#pragma unroll
    for (int l = 0; l < 4; ++l)
      acc0[0][j][l] = acc1[0][j][l] = total0[0][j][l] = total1[0][j][l] = 0;
#pragma unroll
  for (int i = 0; i < C::S - 2; ++i) {
    if (i < steps) load.start(i * C::kStage);
    cp_commit();
  }
  uint32_t read = 0, write = (C::S - 2) * C::kStage;
  int step = 0;
  const auto begin = [&] {
    cp_wait<C::S - 3>();
    proxy_fence();
    __syncthreads();
  };
  const auto multiply = [&](float (&d)[1][NI][4], int half, bool first) {
    keep(d);
    wg_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma_bf16(d, da + (read >> 4) + k * 2, db + (read >> 4) + half * (C::BN * 4) + k * 2,
                 !(first && k == 0));
    wg_commit();
  };
  const auto finish_step = [&] {
    if (step + C::S - 2 < steps) load.start(write);
    cp_commit();
    write = write == (C::S - 1) * C::kStage ? 0 : write + C::kStage;
    read = read == (C::S - 1) * C::kStage ? 0 : read + C::kStage;
    ++step;
  };
  const auto add = [&](float (&t)[1][NI][4], float (&d)[1][NI][4]) {
    keep(d);
#pragma unroll
    for (int j = 0; j < NI; ++j)
#pragma unroll
      for (int l = 0; l < 4; ++l) t[0][j][l] += d[0][j][l];
    keep(t);
  };
  for (int full = steps / 2; full > 0; --full) {
    begin();
    multiply(acc0, 0, true);
    wg_wait<1>();
    add(total1, acc1);
    multiply(acc1, 1, true);
    finish_step();
    wg_wait<1>();
    begin();
    multiply(acc0, 0, false);
    wg_wait<1>();
    multiply(acc1, 1, false);
    finish_step();
    wg_wait<1>();
    add(total0, acc0);
  }
  wg_wait<0>();
  add(total1, acc1);
  if (step < steps) {
    begin();
    multiply(acc0, 0, true);
    multiply(acc1, 1, true);
    finish_step();
    wg_wait<0>();
    add(total0, acc0);
    add(total1, acc1);
  }
  cp_wait<0>();
  __syncthreads();
  float total[1][2 * NI][4];
#pragma unroll
  for (int j = 0; j < NI; ++j)
#pragma unroll
    for (int l = 0; l < 4; ++l)
      total[0][j][l] = total0[0][j][l], total[0][NI + j][l] = total1[0][j][l];
  write_tile<C>(a, total, row0, col0, warp * 16, 0);
}

template <class C>
void launch_wg_half(const Args& a, void* stream) {
  const int64_t blocks =
      static_cast<int64_t>((a.o + C::BN - 1) / C::BN) * ((a.rows + C::BM - 1) / C::BM);
  const bninv::cuda::Launch how{"probe wg half", blocks, C::T, C::kShared, stream};
  if (a.pixel % 128 != 0 || a.r * a.s > 16) throw std::runtime_error("unsupported");
  if (a.r == 1 && a.s == 1 && a.stride == 1 && a.pad == 0)
    bninv::cuda::launch(how, conv_wg_half<C, kGemm>, a);
  else
    bninv::cuda::launch(how, conv_wg_half<C, kTaps>, a);
}
template <class C>
Entry wg_half_entry(const char* name) {
  return {name, launch_wg_half<C>, 0, 0, 0, C::BM, C::BN, 1, 0, 0, C::T, C::kShared};
}

template <class C>
void launch_wg(const Args& a, void* stream) {
  const int64_t blocks =
      static_cast<int64_t>((a.o + C::BN - 1) / C::BN) * ((a.rows + C::BM - 1) / C::BM);
  const bninv::cuda::Launch how{"probe wg", blocks, C::T, C::kShared, stream};
  if (a.pixel % 128 != 0 || a.r * a.s > 16) throw std::runtime_error("unsupported");
  if (a.r == 1 && a.s == 1 && a.stride == 1 && a.pad == 0)
    bninv::cuda::launch(how, conv_wg<C, kGemm>, a);
  else
    bninv::cuda::launch(how, conv_wg<C, kTaps>, a);
}
template <class C>
Entry wg_entry(const char* name) {
  return {name, launch_wg<C>, C::TF32, 0, 0, C::BM, C::BN, C::Seg, C::Round, 0, C::T, C::kShared};
}
}  // namespace probe
