#include "../scan.h"
#include "common.h"

namespace bninv {
namespace {

Tensor scan_along(const char* op, Scan scan, const Tensor& input, int64_t dim) {
  ScanArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  args.scan = scan;
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
  args.outer = args.terms = args.inner = 1;
  for (int64_t d = 0; d < x.dim(); ++d)
    (d < dim ? args.outer : d == dim ? args.terms : args.inner) *= x.size(d);
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(scan), args, input);
    return output;
  }
  const int64_t tasks = scan_tasks(args);
  // A chain waits for each of its steps, and a logarithm's is a long one.
  const int64_t cost = scan == Scan::kLogSumExp ? 16 : 2;
  run(BNINV_KERNEL(scan), args, tasks, grain_of(cost * (x.numel() / tasks)));
  return output;
}

Tensor cumsum(const Tensor& input, int64_t dim) {
  return scan_along("cumsum", Scan::kSum, input, dim);
}

Tensor cumprod(const Tensor& input, int64_t dim) {
  return scan_along("cumprod", Scan::kProduct, input, dim);
}

Tensor logcumsumexp(const Tensor& input, int64_t dim) {
  return scan_along("logcumsumexp", Scan::kLogSumExp, input, dim);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("cumsum", TORCH_BOX(&cumsum));
  m.impl("cumprod", TORCH_BOX(&cumprod));
  m.impl("logcumsumexp", TORCH_BOX(&logcumsumexp));
}

}  // namespace bninv
