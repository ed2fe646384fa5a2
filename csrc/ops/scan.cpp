#include "../scan.h"
#include "along.h"

namespace bninv {
namespace {

Tensor scan_along(const char* op, Scan scan, const Tensor& input, int64_t dim) {
  ScanArgs args{};
  const Along along = prepare_along(op, input, dim, args);
  args.scan = scan;
  const int64_t elements = along.output.numel();
  if (elements == 0) return along.output;
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(scan), args, input);
    return along.output;
  }
  const int64_t tasks = along_tasks(args);
  // A chain waits for each of its steps, and a logarithm's is a long one.
  const int64_t cost = scan == Scan::kLogSumExp ? 16 : 2;
  run(BNINV_KERNEL(scan), args, tasks, grain_of(cost * (elements / tasks)));
  return along.output;
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
