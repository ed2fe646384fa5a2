// Experiment: implicit-GEMM convolution by mma.sync under R9 (segments of 128), one template.
#pragma once
#include <cstring>
#include <string>
#include "tc.cuh"

namespace probe {

struct Args {
  const char* x;   // NHWC
  const char* wt;  // [o][k] or, KN, [k][o]
  const float* scale;
  const float* bias;
  char* y;      // NHWC, bf16 or float32
  float* raw;   // not null: totals as they are go here, and y is not written
  float* work;  // segment sums [segment][row][o]
  int* tickets;
  int n, h, w, pixel;  // bytes a pixel
  int p, q, o, r, s, stride, pad;
  int own;  // segments a block does, when split
  int relu;
  int rows;  // n p q
};

enum Src { kGemm, kTaps, kAny };
enum Split { kWhole, kReduce, kTicket, kCluster };

template <bool TF32_, bool KN_, int BM_, int BN_, int WM_, int WN_, int S_, int MB_,
          bool Seg_ = true, bool Round_ = true>
struct Cfg {
  static constexpr bool TF32 = TF32_, KN = KN_, Seg = Seg_, Round = TF32_ && Round_;
  static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, S = S_, MB = MB_;
  static constexpr int T = BM / WM * (BN / WN) * 32;
  static constexpr int kABytes = BM * 128, kBBytes = BN * 128, kStage = kABytes + kBBytes;
  static constexpr int kSps = TF32 ? 4 : 2;  // steps a segment
  static constexpr int kEl = TF32 ? 4 : 2;
  static constexpr int kOutPitch = BN * kEl + (TF32 ? 32 : 16);
  static constexpr int kShared = kStage * S > BM* kOutPitch ? kStage * S : BM * kOutPitch;
  static_assert(!(KN && TF32));
};

// Copies of both operands: rows of 128 bytes of k, 16-byte chunks swizzled by the row.
template <class C, Src kSrc>
struct Loader {
  static constexpr int T = C::T, kA = C::BM * 8 / T, kStep = T / 8;
  static constexpr int kBc = C::KN ? C::BN / 8 : 8, kBStep = T / kBc,
                       kB = (C::KN ? 64 : C::BN) / kBStep;
  static_assert(kA * kStep == C::BM && kBStep % 8 == 0 && kB >= 1);
  const Args& a;
  const char* xd;  // kGemm: this thread's first row; kTaps: x moved to tap and channel; kAny: x
  int off[kSrc == kGemm ? 1 : kA];  // in 16 bytes, from x
  unsigned
      mask[kSrc == kTaps ? (kA + 1) / 2 : 1];  // valid taps, two rows a word; kGemm: valid rows
  int top[kSrc == kAny ? kA : 1], left[kSrc == kAny ? kA : 1];
  int c, tap, s;
  uint32_t to_a, to_b;
  const char* wp;
  unsigned wok;
  int left_k;  // KN, kAny: bytes (rows) of k left

  PROBE_FN Loader(const Args& args, int row0, int col0, int seg0) : a(args) {
    const int tid = threadIdx.x, first = seg0 * 128 * C::kEl;
    const int r8 = tid / 8, c8 = tid % 8;
    to_a = base() + r8 * 128 + ((c8 ^ (r8 & 7)) << 4);
    if constexpr (kSrc == kGemm) {
      mask[0] = 0;
      off[0] = 0;
#pragma unroll
      for (int i = 0; i < kA; ++i) mask[0] |= (row0 + r8 + i * kStep < a.rows ? 1u : 0u) << i;
      xd = a.x + static_cast<int64_t>(row0 + r8) * a.pixel + first + c8 * 16;
    } else {
      if constexpr (kSrc == kTaps) {
#pragma unroll
        for (int i = 0; i < (kA + 1) / 2; ++i) mask[i] = 0;
      }
#pragma unroll
      for (int i = 0; i < kA; ++i) {
        const int row = row0 + r8 + i * kStep;
        const int line = row / a.q, qx = row - line * a.q, n = line / a.p, py = line - n * a.p;
        const int t = py * a.stride - a.pad, l = qx * a.stride - a.pad;
        off[i] = ((n * a.h + t) * a.w + l) * (a.pixel / 16) + (kSrc == kTaps ? c8 : 0);
        if constexpr (kSrc == kTaps) {
          unsigned m = 0;
          int bit = 0;
          for (int r = 0; r < a.r; ++r)
            for (int u = 0; u < a.s; ++u, ++bit)
              m |= (static_cast<unsigned>(t + r) < static_cast<unsigned>(a.h) &&
                            static_cast<unsigned>(l + u) < static_cast<unsigned>(a.w)
                        ? 1u
                        : 0u)
                   << bit;
          if (row >= a.rows) m = 0;
          mask[i / 2] |= m << (i % 2 * 16);
        } else {
          top[i] = row < a.rows ? t : -100000;
          left[i] = l;
        }
      }
      const int at = kSrc == kTaps ? first : first + c8 * 16;
      tap = at / a.pixel;
      c = at - tap * a.pixel;
      const int r = tap / a.s;
      s = tap - r * a.s;
      xd = kSrc == kTaps ? a.x + (r * a.w + s) * a.pixel + c : a.x;
    }
    const int kbytes = a.r * a.s * a.pixel;
    wok = 0;
    if constexpr (C::KN) {
      const int bk = tid / kBc, bc = tid % kBc;
      to_b = base() + C::kABytes + bk * (C::BN * 2) + (((bc & ~7) | ((bc ^ bk) & 7)) << 4);
      wp = a.wt + (static_cast<int64_t>(seg0 * 128 + bk) * a.o + col0 + bc * 8) * 2;
      wok = col0 + bc * 8 < a.o ? 1 : 0;
      left_k = wok ? kbytes / 2 - seg0 * 128 - bk : 0;
    } else {
      to_b = to_a + C::kABytes;
      wp = a.wt + static_cast<int64_t>(col0 + r8) * kbytes + first + c8 * 16;
#pragma unroll
      for (int i = 0; i < kB; ++i) wok |= (col0 + r8 + i * kBStep < a.o ? 1u : 0u) << i;
      left_k = kbytes - first - c8 * 16;
    }
  }

  PROBE_FN void start(uint32_t stage) {
    if constexpr (kSrc == kGemm) {
#pragma unroll
      for (int i = 0; i < kA; ++i)
        cp16(to_a + stage + i * (kStep * 128), xd + i * (kStep * a.pixel), mask[0] >> i & 1);
      xd += 128;
    } else if constexpr (kSrc == kTaps) {
#pragma unroll
      for (int i = 0; i < kA; ++i)
        cp16(to_a + stage + i * (kStep * 128), xd + static_cast<int64_t>(off[i]) * 16,
             mask[i / 2] >> tap >> (i % 2 * 16) & 1);
      c += 128, xd += 128;
      if (c == a.pixel) {
        c = 0, ++tap, ++s;
        if (s == a.s) s = 0, xd += (a.w - a.s) * a.pixel;
      }
    } else {
      const int r = tap / a.s, u = tap - r * a.s;
      const int delta = (r * a.w + u) * a.pixel + c;
#pragma unroll
      for (int i = 0; i < kA; ++i) {
        const bool ok = r < a.r && static_cast<unsigned>(top[i] + r) < static_cast<unsigned>(a.h) &&
                        static_cast<unsigned>(left[i] + u) < static_cast<unsigned>(a.w);
        cp16(to_a + stage + i * (kStep * 128), xd + static_cast<int64_t>(off[i]) * 16 + delta, ok);
      }
      c += 128;
      const int more = c / a.pixel;
      tap += more, c -= more * a.pixel;
    }
    if constexpr (C::KN) {
#pragma unroll
      for (int i = 0; i < kB; ++i)
        cp16(to_b + stage + i * (kBStep * C::BN * 2),
             wp + static_cast<int64_t>(i * kBStep * 2) * a.o,
             kSrc == kAny ? i * kBStep < left_k : wok);
      left_k -= 64, wp += static_cast<int64_t>(128) * a.o;
    } else {
      const int kbytes = a.r * a.s * a.pixel;
#pragma unroll
      for (int i = 0; i < kB; ++i)
        cp16(to_b + stage + i * (kBStep * 128), wp + static_cast<int64_t>(i * kBStep) * kbytes,
             (wok >> i & 1) && (kSrc != kAny || left_k > 0));
      left_k -= 128, wp += 128;
    }
  }
};

// scale, bias, relu of two neighbours
PROBE_FN float finish(float v, float scale, float bias, int relu) {
  const float f = __fmaf_rn(v, scale, bias);
  return relu ? (f > 0.0f ? f : 0.0f) : f;
}

// Totals of a block's tile, as mma lays them out, to y (through shared memory) or raw.
template <class C, int kMi, int kNi>
PROBE_FN void write_tile(const Args& a, float (&total)[kMi][kNi][4], int row0, int col0, int wm,
                         int wn) {
  const int lane = threadIdx.x % 32;
  if (a.raw) {
#pragma unroll
    for (int i = 0; i < kMi; ++i)
#pragma unroll
      for (int j = 0; j < kNi; ++j)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = row0 + wm + i * 16 + lane / 4 + h * 8,
                    col = col0 + wn + j * 8 + lane % 4 * 2;
          if (row < a.rows && col < a.o)
            *reinterpret_cast<float2*>(a.raw + static_cast<int64_t>(row) * a.o + col) =
                make_float2(total[i][j][h * 2], total[i][j][h * 2 + 1]);
        }
    return;
  }
  const uint32_t out = base() + (wm + lane / 4) * C::kOutPitch + (wn + lane % 4 * 2) * C::kEl;
#pragma unroll
  for (int j = 0; j < kNi; ++j) {
    const int col = col0 + wn + j * 8 + lane % 4 * 2;
    float2 sc = make_float2(0, 0), bi = sc;
    if (col < a.o)
      sc = *reinterpret_cast<const float2*>(a.scale + col),
      bi = *reinterpret_cast<const float2*>(a.bias + col);
#pragma unroll
    for (int i = 0; i < kMi; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float u = finish(total[i][j][h * 2], sc.x, bi.x, a.relu),
                    v = finish(total[i][j][h * 2 + 1], sc.y, bi.y, a.relu);
        const uint32_t to = out + (i * 16 + h * 8) * C::kOutPitch + j * 8 * C::kEl;
        if constexpr (C::TF32)
          st8(to, u, v);
        else
          st4(to, pack_bf16(u, v));
      }
  }
  __syncthreads();
  constexpr int kChunks = C::BN * C::kEl / 16;
  static_assert(C::BM * kChunks % C::T == 0);
#pragma unroll
  for (int i = 0; i < C::BM * kChunks / C::T; ++i) {
    const int at = threadIdx.x + i * C::T, row = at / kChunks, chunk = at % kChunks;
    if (row0 + row < a.rows && col0 + chunk * (16 / C::kEl) < a.o)
      bninv::cuda::store16(
          a.y + (static_cast<int64_t>(row0 + row) * a.o + col0) * C::kEl + chunk * 16,
          ld16(base() + row * C::kOutPitch + chunk * 16));
  }
}

template <bool kTF32>
PROBE_FN void finish_four(const Args& a, float (&t)[4], int row, int col) {
  const int64_t at = static_cast<int64_t>(row) * a.o + col;
  if (a.raw) {
    *reinterpret_cast<float4*>(a.raw + at) = make_float4(t[0], t[1], t[2], t[3]);
    return;
  }
  const float4 sc = *reinterpret_cast<const float4*>(a.scale + col),
               bi = *reinterpret_cast<const float4*>(a.bias + col);
  t[0] = finish(t[0], sc.x, bi.x, a.relu), t[1] = finish(t[1], sc.y, bi.y, a.relu);
  t[2] = finish(t[2], sc.z, bi.z, a.relu), t[3] = finish(t[3], sc.w, bi.w, a.relu);
  if constexpr (kTF32)
    *reinterpret_cast<float4*>(a.y + at * 4) = make_float4(t[0], t[1], t[2], t[3]);
  else
    *reinterpret_cast<uint2*>(a.y + at * 2) =
        make_uint2(pack_bf16(t[0], t[1]), pack_bf16(t[2], t[3]));
}

// Four neighbours of a finished row from the workspace, segments in order.
template <bool kTF32>
PROBE_FN void reduce_four(const Args& a, int segments, int row, int col) {
  const int64_t stride = static_cast<int64_t>(a.rows) * a.o;
  const float* p = a.work + static_cast<int64_t>(row) * a.o + col;
  float t[4] = {0, 0, 0, 0};
  int g = 0;
  for (; g + 8 <= segments; g += 8, p += 8 * stride) {
    float4 v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = *reinterpret_cast<const float4*>(p + i * stride);
#pragma unroll
    for (int i = 0; i < 8; ++i) t[0] += v[i].x, t[1] += v[i].y, t[2] += v[i].z, t[3] += v[i].w;
  }
  for (; g < segments; ++g, p += stride) {
    const float4 v = *reinterpret_cast<const float4*>(p);
    t[0] += v.x, t[1] += v.y, t[2] += v.z, t[3] += v.w;
  }
  finish_four<kTF32>(a, t, row, col);
}

#if defined(BNINV_EMULATION)
inline void cluster_sync() { throw std::runtime_error("clusters are not emulated"); }
inline float4 load_cluster(uint32_t, int) { return {}; }
#else
PROBE_FN void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
PROBE_FN float4 load_cluster(uint32_t address, int rank) {
  uint32_t at;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(address), "r"(rank));
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(at)
               : "memory");
  return v;
}
#endif

template <bool kTF32>
__global__ void __launch_bounds__(128) reduce_segments(const Args a, int segments) {
  const int at = blockIdx.x * 128 + threadIdx.x, fours = a.o / 4;
  if (at < a.rows * fours) reduce_four<kTF32>(a, segments, at / fours, at % fours * 4);
}

template <class C, Src kSrc, Split kSplit>
__global__ void __launch_bounds__(C::T, C::MB) conv(const Args a) {
  constexpr int kMi = C::WM / 16, kNi = C::WN / 8;
  constexpr bool kTotals = C::Seg && kSplit == kWhole;
  const int kbytes = a.r * a.s * a.pixel;
  constexpr int kSegBytes = 128 * C::kEl;
  const int segments = (kbytes + kSegBytes - 1) / kSegBytes;
  const int columns = (a.o + C::BN - 1) / C::BN, tiles_m = (a.rows + C::BM - 1) / C::BM;
  int b = blockIdx.x;
  int rank = 0,
      per = a.own;  // kCluster: own is the cluster's size, each of its blocks has `per` segments
  if constexpr (kSplit == kCluster)
    rank = b % a.own, b /= a.own, per = (segments + a.own - 1) / a.own;
  const int col0 = b % columns * C::BN;
  b /= columns;
  const int row0 = b % tiles_m * C::BM;
  b /= tiles_m;
  if constexpr (kSplit == kCluster) b = rank;
  const int seg0 = kSplit == kWhole ? 0 : b * per;
  const int seg1 = kSplit == kWhole ? segments : (seg0 + per < segments ? seg0 + per : segments);
  const int end = seg1 * kSegBytes < kbytes ? seg1 * kSegBytes : kbytes;
  const int steps = end > seg0 * kSegBytes ? (end - seg0 * kSegBytes + 127) / 128 : 0;
  Loader<C, kSrc> load(a, row0, col0, seg0);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int wm = warp / (C::BN / C::WN) * C::WM, wn = warp % (C::BN / C::WN) * C::WN;
  const uint32_t from_a = base() + (wm + lane % 16) * 128 + (((lane / 16) ^ (lane & 7)) << 4);
  uint32_t from_b;
  if constexpr (C::KN) {
    const int chunk = wn / 8 + lane / 16;
    from_b = base() + C::kABytes + lane % 16 * (C::BN * 2) +
             (((chunk & ~7) | ((chunk ^ lane) & 7)) << 4);
  } else {
    from_b = base() + C::kABytes + (wn + lane % 8 + lane / 16 * 8) * 128 +
             (((lane / 8 & 1) ^ (lane & 7)) << 4);
  }
  float acc[kMi][kNi][4], total[kTotals ? kMi : 1][kTotals ? kNi : 1][4];
  if constexpr (kTotals) {
#pragma unroll
    for (int i = 0; i < kMi; ++i)
#pragma unroll
      for (int j = 0; j < kNi; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) total[i][j][l] = 0;
  }
  if constexpr (!C::Seg) {
#pragma unroll
    for (int i = 0; i < kMi; ++i)
#pragma unroll
      for (int j = 0; j < kNi; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) acc[i][j][l] = 0;
  }
#pragma unroll
  for (int i = 0; i < C::S - 1; ++i) {
    if (i < steps) load.start(i * C::kStage);
    cp_commit();
  }
  uint32_t read = 0, write = (C::S - 1) * C::kStage;
  int step = 0;
  while (step < steps) {
    const int seg = seg0 + step / C::kSps;
#pragma unroll
    for (int u = 0; u < C::kSps; ++u) {
      if (u > 0 && step >= steps) break;
      cp_wait<C::S - 2>();
      __syncthreads();
      if (step + C::S - 1 < steps) load.start(write);
      cp_commit();
      write = write == (C::S - 1) * C::kStage ? 0 : write + C::kStage;
      const uint32_t pa = from_a + read, pb = from_b + read;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        uint32_t fa[kMi][4], fb[kNi / 2][4];
#pragma unroll
        for (int i = 0; i < kMi; ++i) ldsm4(fa[i], (pa ^ (k << 5)) + i * 2048);
#pragma unroll
        for (int j = 0; j < kNi / 2; ++j) {
          if constexpr (C::KN)
            ldsm4t(fb[j], (pb ^ (j << 5)) + k * (16 * C::BN * 2));
          else
            ldsm4(fb[j], (pb ^ (k << 5)) + j * 2048);
        }
        if constexpr (C::Round) {
#pragma unroll
          for (int l = 0; l < 4; ++l) {
#pragma unroll
            for (int i = 0; i < kMi; ++i) fa[i][l] += 0x1000u;
#pragma unroll
            for (int j = 0; j < kNi / 2; ++j) fb[j][l] += 0x1000u;
          }
        }
#pragma unroll
        for (int i = 0; i < kMi; ++i)
#pragma unroll
          for (int j = 0; j < kNi; ++j)
            mma<C::TF32>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1],
                         C::Seg && u == 0 && k == 0);
      }
      read = read == (C::S - 1) * C::kStage ? 0 : read + C::kStage;
      ++step;
    }
    if constexpr (kTotals) {
#pragma unroll
      for (int i = 0; i < kMi; ++i)
#pragma unroll
        for (int j = 0; j < kNi; ++j)
#pragma unroll
          for (int l = 0; l < 4; ++l) total[i][j][l] += acc[i][j][l];
    } else if constexpr (kSplit == kCluster) {
      constexpr int kPitch = C::BN * 4 + 32;
      const uint32_t out = base() + C::S * C::kStage + (seg - seg0) * (C::BM * kPitch) +
                           (wm + lane / 4) * kPitch + (wn + lane % 4 * 2) * 4;
#pragma unroll
      for (int i = 0; i < kMi; ++i)
#pragma unroll
        for (int j = 0; j < kNi; ++j)
#pragma unroll
          for (int h = 0; h < 2; ++h)
            st8(out + (i * 16 + h * 8) * kPitch + j * 32, acc[i][j][h * 2], acc[i][j][h * 2 + 1]);
    } else if constexpr (kSplit != kWhole) {
      float* out = a.work + static_cast<int64_t>(seg) * a.rows * a.o;
#pragma unroll
      for (int i = 0; i < kMi; ++i)
#pragma unroll
        for (int j = 0; j < kNi; ++j)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const int row = row0 + wm + i * 16 + lane / 4 + h * 8,
                      col = col0 + wn + j * 8 + lane % 4 * 2;
            if (row < a.rows && col < a.o)
              *reinterpret_cast<float2*>(out + static_cast<int64_t>(row) * a.o + col) =
                  make_float2(acc[i][j][h * 2], acc[i][j][h * 2 + 1]);
          }
    }
  }
  cp_wait<0>();
  __syncthreads();
  if constexpr (kSplit == kWhole) {
    if constexpr (kTotals)
      write_tile<C>(a, total, row0, col0, wm, wn);
    else
      write_tile<C>(a, acc, row0, col0, wm, wn);
  } else if constexpr (kSplit == kCluster) {
    constexpr int kPitch = C::BN * 4 + 32, kFours = C::BN / 4;
    cluster_sync();
    const int rows = C::BM / a.own;
    for (int i = threadIdx.x; i < rows * kFours; i += C::T) {
      const int r = rank * rows + i / kFours, row = row0 + r, col = col0 + i % kFours * 4;
      if (row >= a.rows || col >= a.o) continue;
      const uint32_t at = base() + C::S * C::kStage + r * kPitch + i % kFours * 16;
      float t[4] = {0, 0, 0, 0};
      int from = 0, local = 0;
      for (int g = 0; g < segments; g += 4) {
        float4 v[4];
#pragma unroll
        for (int u = 0; u < 4; ++u)
          if (g + u < segments) {
            v[u] = load_cluster(at + local * (C::BM * kPitch), from);
            if (++local == per) local = 0, ++from;
          }
#pragma unroll
        for (int u = 0; u < 4; ++u)
          if (g + u < segments) t[0] += v[u].x, t[1] += v[u].y, t[2] += v[u].z, t[3] += v[u].w;
      }
      finish_four<C::TF32>(a, t, row, col);
    }
    __syncthreads();
    cluster_sync();
  } else if constexpr (kSplit == kTicket) {
    const int blocks = (segments + a.own - 1) / a.own, tile = blockIdx.x % (columns * tiles_m);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      const int before = atomicAdd(a.tickets + tile, 1);
      if (before == blocks - 1) a.tickets[tile] = 0;
      st4(base(), before == blocks - 1);
    }
    __syncthreads();
    if (ld16(base()).x) {
      __threadfence();
      for (int i = threadIdx.x; i < C::BM * C::BN / 4; i += C::T) {
        const int row = row0 + i / (C::BN / 4), col = col0 + i % (C::BN / 4) * 4;
        if (row < a.rows && col < a.o) reduce_four<C::TF32>(a, segments, row, col);
      }
    }
  }
}

// ---- Launch -----------------------------------------------------------------------------------------

template <typename K>
void launch_cluster(const char* name, K kernel, const Args& a, int64_t blocks, int threads,
                    int shared, int size, void* stream) {
#if !defined(BNINV_EMULATION)
  if (shared > 227 * 1024) throw std::runtime_error("cluster: shared memory");
  bninv::cuda::check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
                     name);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute at{};
  at.id = cudaLaunchAttributeClusterDimension;
  at.val.clusterDim.x = size, at.val.clusterDim.y = 1, at.val.clusterDim.z = 1;
  config.attrs = &at;
  config.numAttrs = 1;
  bninv::cuda::check(cudaLaunchKernelEx(&config, kernel, a), name);
#endif
}

template <class C, Split kSplit, bool kWithAny>
void launch_conv(const Args& a, void* stream) {
  const int segments = (a.r * a.s * a.pixel + 128 * C::kEl - 1) / (128 * C::kEl);
  const int64_t splits = kSplit == kWhole ? 1 : (segments + a.own - 1) / a.own;
  const int64_t blocks = splits * ((a.o + C::BN - 1) / C::BN) * ((a.rows + C::BM - 1) / C::BM);
  if constexpr (kSplit == kCluster) {
    const int per = (segments + a.own - 1) / a.own,
              shared = C::S * C::kStage + per * C::BM * (C::BN * 4 + 32);
    const int64_t all =
        static_cast<int64_t>(a.own) * ((a.o + C::BN - 1) / C::BN) * ((a.rows + C::BM - 1) / C::BM);
    if (a.pixel % 128 != 0) throw std::runtime_error("unsupported");
    if (a.r == 1 && a.s == 1 && a.stride == 1 && a.pad == 0)
      launch_cluster("cluster", conv<C, kGemm, kSplit>, a, all, C::T, shared, a.own, stream);
    else
      launch_cluster("cluster", conv<C, kTaps, kSplit>, a, all, C::T, shared, a.own, stream);
    return;
  }
  const bninv::cuda::Launch how{"probe", blocks, C::T, C::kShared, stream};
  if (a.r == 1 && a.s == 1 && a.stride == 1 && a.pad == 0 && a.pixel % 128 == 0)
    bninv::cuda::launch(how, conv<C, kGemm, kSplit>, a);
  else if (a.pixel % 128 == 0 && a.r * a.s <= 16)
    bninv::cuda::launch(how, conv<C, kTaps, kSplit>, a);
  else if constexpr (kWithAny)
    bninv::cuda::launch(how, conv<C, kAny, kSplit>, a);
  else
    throw std::runtime_error("unsupported");
  if constexpr (kSplit == kReduce)
    bninv::cuda::launch(
        {"reduce", (static_cast<int64_t>(a.rows) * (a.o / 4) + 127) / 128, 128, 0, stream},
        reduce_segments<C::TF32>, a, segments);
}

struct Entry {
  const char* name;
  void (*launch)(const Args&, void*);
  int tf32, kn, split, bm, bn, seg, round, any, threads, shared;
};
template <class C, Split kSplit, bool kWithAny>
Entry entry(const char* name) {
  return {name,     launch_conv<C, kSplit, kWithAny>,
          C::TF32,  C::KN,
          kSplit,   C::BM,
          C::BN,    C::Seg,
          C::Round, kWithAny,
          C::T,     C::kShared};
}

}  // namespace probe

#define PROBE_EXPORT extern "C" __attribute__((visibility("default")))
#define PROBE_LIBRARY(...)                                                           \
  static const probe::Entry entries[] = {__VA_ARGS__};                               \
  PROBE_EXPORT int probe_count() { return sizeof(entries) / sizeof(entries[0]); }    \
  PROBE_EXPORT const char* probe_name(int i) { return entries[i].name; }             \
  PROBE_EXPORT void probe_info(int i, int* out) {                                    \
    memcpy(out, &entries[i].tf32, 10 * sizeof(int));                                 \
  }                                                                                  \
  PROBE_EXPORT const char* probe_launch(int i, const probe::Args* a, void* stream) { \
    static thread_local std::string message;                                         \
    try {                                                                            \
      entries[i].launch(*a, stream);                                                 \
      return nullptr;                                                                \
    } catch (const std::exception& error) {                                          \
      message = error.what();                                                        \
      return message.c_str();                                                        \
    }                                                                                \
  }
