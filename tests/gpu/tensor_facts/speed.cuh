// The part "speed": what an instruction does at most, its operands in registers (mma.sync) or in
// shared memory (wgmma).
#pragma once

#include "draws.cuh"
#include "facts.cuh"
#include "host.cuh"
#include "wgmma.cuh"

namespace tensor_facts {

// Random numbers about 1 of both signs: what a tensor core draws in power depends on its operands.
template <typename I>
__device__ uint32_t speed_operand(int side, int row, int k) {
  return draw_pattern<I>(kNormal, side, kShare * (row / 16), row % 16, k);
}

template <typename I, int kRows, int kColumns>
__global__ void mma_loop(int iterations, float* out) {
  float sum[kRows][kColumns][4] = {}, total = 0;
  uint32_t a[kRows][4], b[kColumns][2], unused_a[4], unused_b[2];
  const int row = (threadIdx.x / 32 + blockIdx.x % 7 * 16) * 16;
  const auto none = [](int, int) { return 0u; };
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    load_fragments<I>(
        a[i], unused_b, [&](int r, int k) { return speed_operand<I>(0, row + r + i * 1600, k); },
        none);
#pragma unroll
  for (int j = 0; j < kColumns; ++j)
    load_fragments<I>(unused_a, b[j], none, [&](int k, int column) {
      return speed_operand<I>(1, row + column + j * 1600, k);
    });
  for (int n = 0; n < iterations; ++n) {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) issue<I>(sum[i][j], a[i], b[j]);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kColumns; ++j)
      total += sum[i][j][0] + sum[i][j][1] + sum[i][j][2] + sum[i][j][3];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

constexpr int kSlices = 4;  // instructions along k before the operands come again

// Groups of four warps with 64 x 256 outputs each, B in common. `results` of the first block.
template <typename I>
__global__ void __launch_bounds__(256, 1) wgmma_loop(int iterations, float* out, float* results) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) char shared[];
  const int group = threadIdx.x / 128, rows = blockDim.x / 2;
  char* right = shared;
  char* left = shared + kSlices * 256 * 32;
  for (int s = 0; s < kSlices; ++s) {
    for (int i = threadIdx.x; i < 256 * I::kK; i += blockDim.x)
      store_operand<I>(right + s * 256 * 32, i / I::kK, i % I::kK,
                       speed_operand<I>(1, i / I::kK + s * 256, i % I::kK));
    for (int i = threadIdx.x; i < rows * I::kK; i += blockDim.x)
      store_operand<I>(left + s * rows * 32, i / I::kK, i % I::kK,
                       speed_operand<I>(0, i / I::kK + s * 128, i % I::kK));
  }
  publish_operands();
  float sum[128], total = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) sum[i] = 0;
  for (int n = 0; n < iterations; ++n) {
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < kSlices; ++s)
      wgmma_n256<I>(sum, descriptor(left + (s * rows + group * 64) * 32),
                    descriptor(right + s * 256 * 32));
    wgmma_commit();
    wgmma_wait<1>();
  }
  wgmma_wait<0>();
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < 128; ++i) {
    total += sum[i];
    if (blockIdx.x == 0)
      results[(row + i % 4 / 2 * 8) * 256 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
#endif
}

// One iteration of two groups against the model: what is timed is what was meant.
template <typename I>
__global__ void check_wgmma(TensorClass rule, const float* results, Tally* tally) {
  const int row = thread_index() / 256, column = thread_index() % 256;
  uint32_t expected = 0;
  for (int s = 0; s < kSlices; ++s) {
    uint32_t x[I::kK], y[I::kK];
    for (int k = 0; k < I::kK; ++k) {
      x[k] = speed_operand<I>(0, row + s * 128, k) >> I::kDropped;
      y[k] = speed_operand<I>(1, column + s * 256, k) >> I::kDropped;
    }
    expected = tensor_multiply_add<typename I::Operand>(x, y, I::kK, expected, rule);
  }
  count(tally->model, __float_as_uint(results[thread_index()]), expected);
}

// Milliseconds of launch(n), for as many iterations n as take about `wanted` of them.
template <typename Launch>
double time_loop(double wanted, int* iterations, Launch launch) {
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));
  float ms = 0;
  for (int n :
       {200, 1000, 0}) {  // the first loads the kernel, the second shows how many are wanted
    if (n == 0) n = *iterations = static_cast<int>(1000 * wanted / (ms > 1e-3f ? ms : 1e-3f)) + 1;
    CHECK(cudaEventRecord(start));
    launch(n);
    CHECK(cudaEventRecord(stop));
    finish("a loop");
    CHECK(cudaEventElapsedTime(&ms, start, stop));
  }
  return ms;
}

// The best over the numbers of warps of an SM, and that one for a quarter of a second.
template <typename Launch>
void write_speed(Json& json, std::initializer_list<int> warps, double flop_a_warp, Launch launch) {
  int sms = 0, best_warps = 0;
  double best = 0;
  CHECK(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
  const auto measure = [&](int n, double wanted) {
    int iterations = 0;
    const double ms = time_loop(wanted, &iterations, [&](int i) { launch(sms, n, i); });
    return flop_a_warp * iterations * n * sms / ms * 1e-9;
  };
  for (const int n : warps) {
    const double found = measure(n, 40);
    if (found > best) best = found, best_warps = n;
  }
  json.integer("warps", best_warps), json.real("best", best);
  json.real("sustained", measure(best_warps, 250));
}

template <typename I>
void time_mma(Json& json) {
  constexpr int kRows = 4, kColumns = 4;
  float* out = allocate<float>(1 << 20);
  write_speed(json, {4, 8, 12, 16}, 2.0 * kM * kN * I::kK * kRows * kColumns,
              [&](int sms, int warps, int iterations) {
                mma_loop<I, kRows, kColumns><<<sms, warps * 32>>>(iterations, out);
              });
}

template <typename I>
void time_wgmma(Json& json, TensorClass rule) {
  const Buffers x = allocate_tiles(rule);
  float *out = allocate<float>(1 << 20), *results = allocate<float>(128 * 256);
  const auto launch = [&](int sms, int warps, int iterations) {
    wgmma_loop<I><<<sms, warps * 32, kSlices * (256 + 16 * warps) * 32>>>(iterations, out, results);
  };
  CHECK(cudaMemset(results, 0xa5, 128 * 256 * sizeof(float)));
  launch(1, 8, 1);
  check_wgmma<I><<<128, 256>>>(rule, results, x.tally);
  finish("wgmma of 256 columns");
  Tally tally;
  CHECK(cudaMemcpy(&tally, x.tally, sizeof(Tally), cudaMemcpyDeviceToHost));
  write_pairs(json, "model", tally.model);
  write_speed(json, {4, 8}, 2.0 * 16 * 256 * I::kK * kSlices, launch);
}

}  // namespace tensor_facts
