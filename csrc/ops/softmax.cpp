#include "../softmax.h"
#include "along.h"

namespace bninv {
namespace {

Tensor softmax_along(const char* op, const Tensor& input, int64_t dim, bool log) {
  SoftmaxArgs args{};
  const Along along = prepare_along(op, input, dim, args);
  args.log = log;
  const int64_t elements = along.output.numel();
  if (elements == 0) return along.output;
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(softmax), args, input);
    return along.output;
  }
  const int64_t tasks = along_tasks(args);
  // An exponential costs as much as moving some ten elements.
  run(BNINV_KERNEL(softmax), args, tasks, grain_of(8 * (elements / tasks)));
  return along.output;
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
