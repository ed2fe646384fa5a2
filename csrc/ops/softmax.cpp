#include "../softmax.h"
#include "common.h"

namespace bninv {
namespace {

Tensor softmax_along(const char* op, const Tensor& input, int64_t dim, bool log) {
  SoftmaxArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  const int64_t dims = input.dim() > 0 ? input.dim() : 1;
  BNINV_CHECK(dim >= -dims && dim < dims, op, ": `dim` is ", dim, "; it may be from ", -dims,
              " to ", dims - 1);
  if (dim < 0) dim += dims;
  // As stock: the result is contiguous.
  const Tensor x = input.is_contiguous() ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  if (output.numel() == 0) return output;
  args.input = x.data_ptr();
  args.output = output.data_ptr();
  args.log = log;
  args.outer = args.terms = args.inner = 1;
  for (int64_t d = 0; d < x.dim(); ++d)
    (d < dim ? args.outer : d == dim ? args.terms : args.inner) *= x.size(d);
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(softmax), args, input);
    return output;
  }
  const int64_t tasks = softmax_tasks(args);
  // An exponential costs as much as moving some ten elements.
  run(BNINV_KERNEL(softmax), args, tasks, grain_of(8 * (x.numel() / tasks)));
  return output;
}

Tensor softmax(const Tensor& input, int64_t dim) {
  return softmax_along("softmax", input, dim, false);
}

Tensor log_softmax(const Tensor& input, int64_t dim) {
  return softmax_along("log_softmax", input, dim, true);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("softmax", TORCH_BOX(&softmax));
  m.impl("log_softmax", TORCH_BOX(&log_softmax));
}

}  // namespace bninv
