// conv2d under R9: the tiled product on tensor cores.
#include "kernels.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {

Precision tensor_class() {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "conv2d");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "conv2d");
  if (major == 8) return Precision::kTensorA;
  if (major == 9 || major == 10 || major == 12) return Precision::kTensorH;
  return Precision::kIeee;
}

void plan_conv2d_tensor(Conv2dArgs&) {
  throw std::runtime_error("bninv.conv2d: `precision` 'tensor' has no CUDA kernel yet");
}

void conv2d_tensor(const Conv2dArgs&, void*) {}

}  // namespace cuda
}  // namespace bninv
