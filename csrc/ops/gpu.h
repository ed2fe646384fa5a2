// From an operator's host function to its CUDA kernel: the tensor's own device, its current stream.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <type_traits>

#if defined(BNINV_HAVE_CUDA) || defined(BNINV_EMULATION)
#define BNINV_CUDA_KERNEL(name) (::bninv::cuda::name)
#else
// A build without CUDA registers nothing for that device: this is never called.
#define BNINV_CUDA_KERNEL(name) (nullptr)
#endif

namespace bninv {

// Whether the tensor's operators run on CUDA; always under tests/emulation.
bool on_cuda(const torch::stable::Tensor& tensor);

// A stream of the tensor's device, which is the current device while this object lives.
class CudaScope {
 public:
  explicit CudaScope(const torch::stable::Tensor& tensor);
  ~CudaScope();
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;
  void* stream() const { return stream_; }

 private:
  void* guard_ = nullptr;
  void* stream_ = nullptr;
};

template <typename Args>
using CudaKernel = void (*)(const Args&, void* stream);

template <typename Args>
void launch(std::type_identity_t<CudaKernel<Args>> kernel, const Args& args,
            const torch::stable::Tensor& tensor) {
  const CudaScope scope(tensor);
  kernel(args, scope.stream());
}

// For a kernel whose plan may want a workspace: from PyTorch's allocator, so it counts as memory in use
// and may be captured into a graph; it is free again once the stream has passed the kernel.
torch::stable::Tensor new_workspace(const torch::stable::Tensor& like, int64_t bytes);

template <typename Args>
void launch_planned(std::type_identity_t<void (*)(Args&)> plan,
                    std::type_identity_t<CudaKernel<Args>> kernel, Args& args,
                    const torch::stable::Tensor& tensor) {
  const CudaScope scope(tensor);
  plan(args);
  if (args.plan.workspace_bytes == 0) return kernel(args, scope.stream());
  const torch::stable::Tensor workspace = new_workspace(tensor, args.plan.workspace_bytes);
  args.workspace = workspace.data_ptr();
  kernel(args, scope.stream());
}

}  // namespace bninv

// Registers an operator's one host function for every device that it has a kernel for.
#if defined(BNINV_EMULATION)
#define BNINV_REGISTER(m) STABLE_TORCH_LIBRARY_IMPL(bninv_emulated, CPU, m)
#elif defined(BNINV_HAVE_CUDA)
#define BNINV_REGISTER(m)                                            \
  static void bninv_register(torch::stable::detail::StableLibrary&); \
  STABLE_TORCH_LIBRARY_IMPL(bninv, CPU, m) { bninv_register(m); }    \
  STABLE_TORCH_LIBRARY_IMPL(bninv, CUDA, m) { bninv_register(m); }   \
  static void bninv_register(torch::stable::detail::StableLibrary& m)
#else
#define BNINV_REGISTER(m) STABLE_TORCH_LIBRARY_IMPL(bninv, CPU, m)
#endif
