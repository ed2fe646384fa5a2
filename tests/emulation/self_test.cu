// Small kernels that each look at one part of the emulation. test_kernels.py runs them by name.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <map>

#include "cuda/device.cuh"
#include "cuda/launch.cuh"
#include "self_test_execution.cuh"
#include "self_test_tensor.cuh"

static_assert(sizeof(float3) == 12 && alignof(float3) == 4 && alignof(float2) == 8);
static_assert(sizeof(uint4) == 16 && alignof(uint4) == 16 && alignof(double2) == 16);
static_assert(alignof(ushort4) == 8 && alignof(uchar4) == 4 && sizeof(__half2) == 4);

namespace bninv {
namespace cuda {
namespace {

// ---- Shared memory and copies ---------------------------------------------------------------------

struct First {
  int values[64];
};
struct Second {
  int values[64];
};

// Both objects and the dynamic memory start poisoned in every block and lie apart.
__global__ void shared_objects(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  int* dynamic = dynamic_shared<int>();
  const bool poisoned = static_shared<First>().values[i] == -1 &&
                        static_shared<Second>().values[i] == -1 && dynamic[i] == -1;
  static_shared<First>().values[i] = i;
  static_shared<Second>().values[i] = 100 + i;
  dynamic[i] = 200 + i;
  __syncthreads();
  const int j = 63 - i;
  atomicAdd(&out[i], poisoned ? static_shared<First>().values[j] +
                                    static_shared<Second>().values[j] + dynamic[j]
                              : -1000000);
}
template <int kInts>
struct Ints {
  int values[kInts];
};
__global__ void static_limit(int*) { static_shared<Ints<12 * 1024>>().values[0] = 1; }
__global__ void static_over_limit(int*) {
  static_shared<Ints<12 * 1024 - 3>>().values[0] = 1;
  static_shared<Ints<1>>().values[0] = 1;
}
__global__ void past_dynamic(int*) {
  if (threadIdx.x == 3) dynamic_shared<int>()[64] = 1;
}
__global__ void before_static(int*) { (&static_shared<First>().values[0])[-1] = 1; }

// Four bytes from `global`; `disturb` says what goes wrong between start and wait.
enum Disturb { kNothing, kSource, kDestination, kForgotten, kNotShared, kNotGlobal, kEarly };
__global__ void copies(int* global, int disturb) {
  int* shared = dynamic_shared<int>() + 2 * threadIdx.x;
  global += 2 * threadIdx.x;
  copy_async<4>(disturb == kNotShared ? global + 1 : shared,
                disturb == kNotGlobal ? shared + 1 : global);
  copy_async_commit();
  copy_async<4>(shared + 1, global);
  copy_async_commit();
  if (disturb == kSource) global[0] = 5;
  if (disturb == kDestination) shared[0] = 5;
  copy_async_wait<1>();
  const int first = shared[0];
  const int second = disturb == kEarly ? shared[1] : 0;
  if (disturb != kForgotten) copy_async_wait<0>();
  global[1] = disturb == kEarly ? second : first + shared[1];
}
__global__ void misaligned(int* out) {
  store16(out, load16(reinterpret_cast<const char*>(out) + 4));
}

// ---- Errors ---------------------------------------------------------------------------------------

__global__ void throws(int*) {
  __syncthreads();
  if (threadIdx.x == 9) throw std::out_of_range("thread 9");
  __syncthreads();
}
__global__ void traps(int*) { __trap(); }
__global__ void asserts(int* out) { assert(out == nullptr); }
__global__ void null_pointer(int*) { *static_cast<volatile int*>(nullptr) = 1; }
__global__ void overflow(int* out) {
  volatile char large[4096];
  large[0] = 1;
  if (large[0] == 1) overflow(out);
  large[1] = large[0];
}
__global__ void nothing(int*) {}
__global__ void launches(int* out) { launch({"nothing", 1, 1, 0, nullptr}, nothing, out); }

// ---- Arithmetic and speed -------------------------------------------------------------------------

__global__ void subnormal(float* out) { out[0] = out[0] * 0.5f; }
__global__ void add_one(int* out, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) ++out[i];
}
__global__ void many_barriers(int64_t n) {
  for (int64_t i = 0; i < n; ++i) __syncthreads();
}
__global__ void many_shuffles(int* out, int64_t n) {
  int value = static_cast<int>(threadIdx.x);
  for (int64_t i = 0; i < n; ++i) value = __shfl_xor_sync(0xffffffffu, value, 1);
  out[threadIdx.x] = value;
}
__global__ void widen_half(uint16_t* in, float* out) {
  const int i = thread_number();
  out[i] = __half2float(__ushort_as_half(in[i]));
}
__global__ void narrow_half(uint16_t* out, const float* in, int64_t n) {
  const int64_t i = thread_number();
  if (i < n) out[i] = __half_as_ushort(__float2half_rn(in[i]));
}
__global__ void widen_bfloat16(uint16_t* in, float* out) {
  const int i = thread_number();
  out[i] = __bfloat162float(__ushort_as_bfloat16(in[i]));
}
__global__ void narrow_bfloat16(uint16_t* out, const float* in, int64_t n) {
  const int64_t i = thread_number();
  if (i < n) out[i] = __bfloat16_as_ushort(__float2bfloat16_rn(in[i]));
}

// ---- By name --------------------------------------------------------------------------------------

struct Call {
  void *out, *in;
  int64_t n;
};

void plain(void (*kernel)(int*), const Call& call, int64_t blocks = 1, int threads = 64,
           size_t shared = 256) {
  launch({"self_test", blocks, threads, shared, nullptr}, kernel, static_cast<int*>(call.out));
}
void copies_case(const Call& call) {
  launch({"copies", 1, 4, 32, nullptr}, copies, static_cast<int*>(call.out),
         static_cast<int>(call.n));
}
int64_t blocks_for(int64_t n) { return (n + 255) / 256; }

#define BNINV_PLAIN(kernel, ...) \
  {#kernel, [](const Call& call) { plain(kernel, call, ##__VA_ARGS__); }}

const std::map<std::string, void (*)(const Call&)> kTests = {
    BNINV_PLAIN(order, 1, 48),
    BNINV_PLAIN(blocks, 100, 2),
    BNINV_PLAIN(block_votes, 1, 100),
    BNINV_PLAIN(warp_operations),
    BNINV_PLAIN(overlapping_masks, 1, 32),
    BNINV_PLAIN(some_exit),
    BNINV_PLAIN(other_barrier),
    BNINV_PLAIN(barrier_against_warp),
    BNINV_PLAIN(lane_exited),
    BNINV_PLAIN(mask_without_self),
    BNINV_PLAIN(masks_differ),
    BNINV_PLAIN(operations_differ),
    BNINV_PLAIN(bad_width),
    BNINV_PLAIN(shared_objects, 3),
    BNINV_PLAIN(static_limit, 1, 1, 0),
    BNINV_PLAIN(static_over_limit, 1, 1, 0),
    BNINV_PLAIN(past_dynamic),
    BNINV_PLAIN(before_static),
    BNINV_PLAIN(misaligned, 1, 1),
    BNINV_PLAIN(throws),
    BNINV_PLAIN(traps),
    BNINV_PLAIN(asserts),
    BNINV_PLAIN(null_pointer),
    BNINV_PLAIN(overflow),
    BNINV_PLAIN(launches),
    {"partial_warp", [](const Call& call) { plain(bad_width, call, 1, 31); }},
    {"partial_syncwarp", [](const Call& call) { plain(masks_differ, call, 1, 31); }},
    {"static_with_dynamic", [](const Call& call) { plain(static_limit, call, 1, 1, 16); }},
    {"copies", copies_case},
    {"tensor_product_f16",
     [](const Call& call) { tensor_product_case<Half>(call.out, call.in, call.n); }},
    {"tensor_product_bf16",
     [](const Call& call) { tensor_product_case<BFloat16>(call.out, call.in, call.n); }},
    {"tensor_product_tf32",
     [](const Call& call) { tensor_product_case<float>(call.out, call.in, call.n); }},
    {"dimensions",
     [](const Call& call) {
       cudaLaunchConfig_t config{};
       config.gridDim = dim3(3, 2, 4);
       config.blockDim = dim3(5, 3, 2);
       check(cudaLaunchKernelEx(&config, dimensions, static_cast<int*>(call.out)), "dimensions");
     }},
    {"shuffle_double",
     [](const Call& call) {
       launch({"shuffle_double", 1, 32, 0, nullptr}, shuffle_double,
              static_cast<double*>(call.out));
     }},
    {"atomics",
     [](const Call& call) {
       launch({"atomics", 1, 64, 0, nullptr}, atomics, static_cast<Atomics*>(call.out));
     }},
    {"subnormal",
     [](const Call& call) {
       launch({"subnormal", 1, 1, 0, nullptr}, subnormal, static_cast<float*>(call.out));
     }},
    {"add_one",
     [](const Call& call) {
       launch({"add_one", blocks_for(call.n), 256, 0, nullptr}, add_one,
              static_cast<int*>(call.out), call.n);
     }},
    {"many_barriers",
     [](const Call& call) { launch({"barriers", 1, 256, 0, nullptr}, many_barriers, call.n); }},
    {"many_shuffles",
     [](const Call& call) {
       launch({"shuffles", 1, 256, 0, nullptr}, many_shuffles, static_cast<int*>(call.out), call.n);
     }},
    {"widen_half",
     [](const Call& call) {
       launch({"widen", 256, 256, 0, nullptr}, widen_half, static_cast<uint16_t*>(call.in),
              static_cast<float*>(call.out));
     }},
    {"widen_bfloat16",
     [](const Call& call) {
       launch({"widen", 256, 256, 0, nullptr}, widen_bfloat16, static_cast<uint16_t*>(call.in),
              static_cast<float*>(call.out));
     }},
    {"narrow_half",
     [](const Call& call) {
       launch({"narrow", blocks_for(call.n), 256, 0, nullptr}, narrow_half,
              static_cast<uint16_t*>(call.out), static_cast<float*>(call.in), call.n);
     }},
    {"narrow_bfloat16",
     [](const Call& call) {
       launch({"narrow", blocks_for(call.n), 256, 0, nullptr}, narrow_bfloat16,
              static_cast<uint16_t*>(call.out), static_cast<float*>(call.in), call.n);
     }},
};

}  // namespace
}  // namespace cuda
}  // namespace bninv

// Null, or the message of what was thrown.
extern "C" __attribute__((visibility("default"))) const char* run_self_test(const char* name,
                                                                            void* out, void* in,
                                                                            int64_t n) {
  static thread_local std::string message;
  try {
    bninv::cuda::kTests.at(name)({out, in, n});
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

// The name of the error of a launch of that shape; `allow` asks for the shared memory first.
extern "C" __attribute__((visibility("default"))) const char* launch_error(const unsigned* grid,
                                                                           const unsigned* block,
                                                                           size_t shared,
                                                                           bool allow) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid[0], grid[1], grid[2]);
  config.blockDim = dim3(block[0], block[1], block[2]);
  config.dynamicSmemBytes = shared;
  void (*kernel)(int*) = bninv::cuda::nothing;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(allow ? shared : 48 * 1024));
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, static_cast<int*>(nullptr));
  // The record is cleared by being read.
  const bool recorded = cudaPeekAtLastError() == error && cudaGetLastError() == error;
  return recorded && cudaGetLastError() == cudaSuccess ? cudaGetErrorName(error) : "not recorded";
}

extern "C" __attribute__((visibility("default"))) int device_attribute(int attribute) {
  int value = -1;
  return cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(attribute), 0) == cudaSuccess
             ? value
             : -1;
}
