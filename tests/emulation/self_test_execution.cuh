// Kernels that look at the order of threads, at barriers, warps and atomics.
#pragma once

#include "cuda/device.cuh"

namespace bninv {
namespace cuda {
namespace {

__device__ int thread_number() {
  const int in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  return block * static_cast<int>(blockDim.x * blockDim.y * blockDim.z) + in_block;
}

// ---- Order ----------------------------------------------------------------------------------------

// out[0] counts; out[1 + i] is who came as the i-th. After each of two barriers they come anew.
__global__ void order(int* out) {
  for (int phase = 0; phase < 3; ++phase) {
    out[1 + atomicAdd(out, 1)] = thread_number();
    __syncthreads();
  }
}

// Every block leaves its number among the blocks that came before it.
__global__ void blocks(int* out) {
  if (threadIdx.x == 0) out[1 + atomicAdd(out, 1)] = static_cast<int>(blockIdx.x);
}

// out[i] counts how often thread i ran, in three dimensions of both kinds.
__global__ void dimensions(int* out) { atomicAdd(&out[thread_number()], 1); }

// ---- Barriers and warps ---------------------------------------------------------------------------

__global__ void block_votes(int* out) {
  const int i = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  const int all = __syncthreads_and(i >= 0), not_all = __syncthreads_and(i != 5);
  const int any = __syncthreads_or(i == 5), none = __syncthreads_or(i == n);
  out[i] = __syncthreads_count(i % 3 == 0) + 1000 * (all + 2 * not_all + 4 * any + 8 * none);
}

// Seven shuffles and three votes of each lane.
__global__ void warp_operations(int* out) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  const unsigned all = 0xffffffffu;
  int* mine = out + 12 * i;
  mine[0] = __shfl_sync(all, i, 3);
  mine[1] = __shfl_sync(all, i, lane + 1, 8);
  mine[2] = __shfl_up_sync(all, i, 5);
  mine[3] = __shfl_down_sync(all, i, 5);
  mine[4] = __shfl_up_sync(all, i, 3, 16);
  mine[5] = __shfl_down_sync(all, i, 3, 16);
  mine[6] = __shfl_xor_sync(all, i, 9);
  mine[7] = static_cast<int>(__ballot_sync(all, lane % 5 == 0));
  mine[8] = __any_sync(all, lane == 31) + 2 * __any_sync(all, lane == 32);
  mine[9] = __all_sync(all, lane < 32) + 2 * __all_sync(all, lane < 31);
  // The halves of a warp go different ways and meet among themselves.
  const unsigned half_mask = lane < 16 ? 0xffffu : 0xffff0000u;
  mine[10] = lane < 16 ? __shfl_xor_sync(half_mask, i, 1) : __shfl_xor_sync(half_mask, i, 2);
  __syncwarp();
  // From outside of the mask nothing comes that could be used.
  mine[11] = __shfl_sync(half_mask, i, lane ^ 16);
}

// Sum of a double, which a shuffle carries whole.
__global__ void shuffle_double(double* out) {
  double sum = 1.0 / (1 + threadIdx.x);
  for (int h = 16; h > 0; h /= 2) sum += __shfl_down_sync(0xffffffffu, sum, h);
  if (threadIdx.x == 0) out[0] = sum;
}

// A lane meets one neighbour after the other: masks overlap, and none waits for the whole warp.
__global__ void overlapping_masks(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int value = lane;
  if (lane > 0) value = __shfl_sync(3u << (lane - 1), value, lane - 1) + 1;
  if (lane < 31) __shfl_sync(3u << lane, value, lane);
  out[lane] = value;
}

__global__ void some_exit(int*) {
  if (threadIdx.x < 5) return;
  __syncthreads();
}
__global__ void other_barrier(int*) {
  if (threadIdx.x < 5)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_against_warp(int*) {
  if (threadIdx.x < 5)
    __syncthreads();
  else
    __syncwarp();
}
__global__ void lane_exited(int*) {
  if (threadIdx.x % 32 == 7) return;
  __syncwarp();
}
__global__ void mask_without_self(int*) { __syncwarp(0xffffu); }
__global__ void masks_differ(int*) { __syncwarp(threadIdx.x % 2 ? 0xffffffffu : 0x55555555u); }
__global__ void operations_differ(int* out) {
  if (threadIdx.x % 2)
    out[0] = __shfl_sync(0xffffffffu, 1, 0);
  else
    out[0] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
__global__ void bad_width(int* out) { out[0] = __shfl_sync(0xffffffffu, 1, 0, 12); }

// ---- Atomics --------------------------------------------------------------------------------------

struct Atomics {
  int sum, least, most, swapped, chosen, all_bits;
  unsigned any_bits, flipped;
  unsigned long long large;
  float f;
  double d;
};
__global__ void atomics(Atomics* out) {
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(&out->sum, i);
  atomicMin(&out->least, -i);
  atomicMax(&out->most, i);
  atomicExch(&out->swapped, 7);
  atomicCAS(&out->chosen, 0, 11);
  atomicAnd(&out->all_bits, ~(1 << (i % 4)));
  atomicOr(&out->any_bits, 1u << (i % 4));
  atomicXor(&out->flipped, 1u << (i % 4));
  atomicAdd(&out->large, 1ull << 33);
  atomicAdd(&out->f, 0.5f);
  atomicAdd(&out->d, 0.25);
}

}  // namespace
}  // namespace cuda
}  // namespace bninv
