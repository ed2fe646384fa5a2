// A tiled matrix product under R1, kept as a test of the emulation: shared memory that two tiles take
// turns in, asynchronous copies, several barriers, and edges that no tile divides.
//
// BNINV_FAULT plants one fault; test_emulation.py sees each of them found.
#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/device.cuh"
#include "cuda/launch.cuh"

#if !defined(BNINV_FAULT)
#define BNINV_FAULT 0
#endif

namespace bninv {
namespace cuda {
namespace {

enum Fault {
  kNoFault,
  kNoBarrierAfterWait,
  kNoBarrierBeforeOverwrite,
  kNoWait,
  kOneRowTooMany,
  kOneColumnTooMany,
  kOneTermTooMany,
  kOneTermTooFew,
  kReadPastTheEnd,
  kSharedNotAskedFor,
  kSharedOverLimit,
  kBarrierInBranch,
  kShuffleMask,
  kSharedTooSmall,
  kMisaligned,
  kStaticShared,
  kNoLastWait,
};
constexpr Fault kFault = static_cast<Fault>(BNINV_FAULT);

// A block owns kTileM x kTileN outputs, a thread kPerThread of them below one another. Terms come in
// tiles of kTileK, which divides R1's segment of 128: so a segment ends where a tile does.
template <int kTileM_, int kTileN_, int kTileK_, int kPerThread_>
struct Tiling {
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kTileK = kTileK_;
  static constexpr int kPerThread = kPerThread_;
  static constexpr int kThreads = kTileM / kPerThread * kTileN;
  static_assert(kSegment % kTileK == 0 && kTileM % kPerThread == 0);
  struct Tile {
    float a[kTileM][kTileK];
    float b[kTileK][kTileN];
  };
  static constexpr size_t kSharedBytes = 2 * sizeof(Tile);
};

// a is m x k, b is k x n, both in row-major order: any element may begin a copy of 4 bytes. What lies
// outside is the term +0 * +0.
template <typename T>
__device__ __forceinline__ void load_tile(typename T::Tile& tile, const float* a, const float* b,
                                          int m, int n, int k, int row, int column, int term) {
  const int end = k + (kFault == kOneTermTooMany) - (kFault == kOneTermTooFew);
  for (int i = threadIdx.x; i < T::kTileM * T::kTileK; i += T::kThreads) {
    const int r = i / T::kTileK, t = i % T::kTileK;
    const bool inside = row + r < m && term + t < end;
    if (inside)
      copy_async<4>(&tile.a[r][t], a + static_cast<int64_t>(row + r) * k + term + t);
    else
      tile.a[r][t] = 0.0f;
  }
  for (int i = threadIdx.x; i < T::kTileK * T::kTileN; i += T::kThreads) {
    const int t = i / T::kTileN, c = i % T::kTileN;
    const bool inside = column + c < n && term + t < end;
    const float* from = b + static_cast<int64_t>(term + t) * n + column + c;
    if (kFault == kMisaligned && inside)
      copy_async<16>(&tile.b[t][c], from);
    else if (inside)
      copy_async<4>(&tile.b[t][c], from);
    else
      tile.b[t][c] = 0.0f;
  }
}

template <typename T>
__global__ void __launch_bounds__(T::kThreads)
    tiled_matmul(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ out,
                 int m, int n, int k) {
  auto* tiles = dynamic_shared<typename T::Tile>();
  const int blocks_n = (n + T::kTileN - 1) / T::kTileN;
  const int row = static_cast<int>(blockIdx.x) / blocks_n * T::kTileM;
  const int column = static_cast<int>(blockIdx.x) % blocks_n * T::kTileN;
  const int my_row = static_cast<int>(threadIdx.x) / T::kTileN * T::kPerThread;
  const int my_column = static_cast<int>(threadIdx.x) % T::kTileN;
  const int count = (k + T::kTileK - 1) / T::kTileK;

  if (kFault == kReadPastTheEnd) {  // a value that reaches no result
    volatile const float* last = a + static_cast<int64_t>(m) * k;
    (void)*last;
  }
  if (kFault == kShuffleMask && threadIdx.x % 32 < 16)
    (void)__shfl_xor_sync(0xffffffffu, my_column, 1);
  if (kFault == kStaticShared) {
    struct TooMuch {
      float values[12 * 1024 + 1];
    };
#if defined(BNINV_EMULATION)  // a compile-time error on a GPU
    static_shared<TooMuch>().values[0] = 0.0f;
#endif
  }

  float total[T::kPerThread] = {}, chain[T::kPerThread] = {};
  // One group for each tile, an empty one included, so that the wait below counts right.
  for (int i = 0; i < 2; ++i) {
    if (i < count) load_tile<T>(tiles[i], a, b, m, n, k, row, column, i * T::kTileK);
    copy_async_commit();
  }
  for (int i = 0; i < count; ++i) {
    if (kFault == kNoLastWait && i == count - 1) break;
    if (kFault != kNoWait) copy_async_wait<1>();
    if (kFault == kBarrierInBranch) {
      if (threadIdx.x % 2 == 0)
        __syncthreads();
      else
        __syncthreads();
    } else if (kFault != kNoBarrierAfterWait) {
      __syncthreads();
    }
    typename T::Tile& tile = tiles[i % 2];
    for (int t = 0; t < T::kTileK; ++t)
      for (int r = 0; r < T::kPerThread; ++r)
        chain[r] = fma(tile.a[my_row + r][t], tile.b[t][my_column], chain[r]);
    if ((i + 1) * T::kTileK % kSegment == 0 || i == count - 1)
      for (int r = 0; r < T::kPerThread; ++r) {
        total[r] = total[r] + chain[r];
        chain[r] = 0.0f;
      }
    if (kFault != kNoBarrierBeforeOverwrite) __syncthreads();  // all are done with this tile
    if (i + 2 < count) load_tile<T>(tile, a, b, m, n, k, row, column, (i + 2) * T::kTileK);
    copy_async_commit();
  }

  for (int r = 0; r < T::kPerThread; ++r)
    if (row + my_row + r < m + (kFault == kOneRowTooMany) &&
        column + my_column < n + (kFault == kOneColumnTooMany))
      out[static_cast<int64_t>(row + my_row + r) * n + column + my_column] = total[r];
}

template <typename T>
void launch_tiled_matmul(const float* a, const float* b, float* out, int m, int n, int k,
                         void* stream) {
  const int64_t blocks =
      static_cast<int64_t>((m + T::kTileM - 1) / T::kTileM) * ((n + T::kTileN - 1) / T::kTileN);
  size_t shared = T::kSharedBytes;
  if (kFault == kSharedOverLimit) shared = 228 * 1024;
  if (kFault == kSharedTooSmall) shared -= 4;
  if (kFault == kSharedNotAskedFor) {  // past the helper, which would ask
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(T::kThreads);
    config.dynamicSmemBytes = kPlainSharedBytes + 16;
    config.stream = static_cast<cudaStream_t>(stream);
    check(cudaLaunchKernelEx(&config, tiled_matmul<T>, a, b, out, m, n, k), "tiled_matmul");
    return;
  }
  launch({"tiled_matmul", blocks, T::kThreads, shared, stream}, tiled_matmul<T>, a, b, out, m, n,
         k);
}

}  // namespace
}  // namespace cuda
}  // namespace bninv

// Null, or the error's message. `tiling` 0 is small; 1 needs more shared memory than 48 KB.
extern "C" __attribute__((visibility("default"))) const char* run_tiled_matmul(
    int tiling, const float* a, const float* b, float* out, int m, int n, int k) {
  using bninv::cuda::launch_tiled_matmul;
  using bninv::cuda::Tiling;
  static thread_local std::string message;
  try {
    if (tiling == 0)
      launch_tiled_matmul<Tiling<8, 16, 16, 2>>(a, b, out, m, n, k, nullptr);
    else
      launch_tiled_matmul<Tiling<32, 80, 64, 4>>(a, b, out, m, n, k, nullptr);
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}
