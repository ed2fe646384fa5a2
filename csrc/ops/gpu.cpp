#define USE_CUDA  // declares the functions of torch's C interface that concern CUDA
#include "gpu.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <stdexcept>

#include "../product.h"
namespace bninv {

using torch::stable::Tensor;

#if defined(BNINV_EMULATION)

bool on_cuda(const Tensor&) { return true; }
CudaScope::CudaScope(const Tensor&) {}
CudaScope::~CudaScope() {}

#elif defined(BNINV_HAVE_CUDA)

bool on_cuda(const Tensor& tensor) { return tensor.is_cuda(); }

CudaScope::CudaScope(const Tensor& tensor)
    : guard_(new torch::stable::accelerator::DeviceGuard(tensor.get_device_index())) {
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream_));
}

CudaScope::~CudaScope() { delete static_cast<torch::stable::accelerator::DeviceGuard*>(guard_); }

#else

bool on_cuda(const Tensor&) { return false; }

CudaScope::CudaScope(const Tensor&) {
  throw std::runtime_error("bninv: these operators were compiled without CUDA");
}
CudaScope::~CudaScope() {}

#endif

#if defined(BNINV_HAVE_CUDA) || defined(BNINV_EMULATION)

namespace {

void set_cuda_plan(int64_t tile, int64_t segments_per_block) {
  cuda::set_plan(tile, segments_per_block);
}
int64_t cuda_tiles() { return cuda::tiles(); }

}  // namespace

#if defined(BNINV_EMULATION)
STABLE_TORCH_LIBRARY_IMPL(bninv_emulated, CompositeExplicitAutograd, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(bninv, CompositeExplicitAutograd, m) {
#endif
  m.impl("_set_cuda_plan", TORCH_BOX(&set_cuda_plan));
  m.impl("_cuda_tiles", TORCH_BOX(&cuda_tiles));
}

#endif

}  // namespace bninv
