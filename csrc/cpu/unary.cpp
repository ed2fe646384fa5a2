// Elementwise functions of one tensor (R6) over dense memory. Tasks are elements.
#include "../functions.h"

#include "kernels.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename Function>
void map(const UnaryArgs& args, int64_t begin, int64_t end, const Function& function) {
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) function(Vec::load(args.input + i)).store(args.output + i);
  if (i < end)
    function(Vec::load_partial(args.input + i, end - i)).store_partial(args.output + i, end - i);
}

}  // namespace

void unary(const UnaryArgs& args, int64_t begin, int64_t end) {
  const Vec parameter(args.parameter);
  switch (args.function) {
    case Unary::kRelu:
      return map(args, begin, end, [](Vec x) { return relu(x); });
    case Unary::kRelu6:
      return map(args, begin, end, [](Vec x) { return relu6(x); });
    case Unary::kSigmoid:
      return map(args, begin, end, [](Vec x) { return sigmoid(x); });
    case Unary::kSilu:
      return map(args, begin, end, [](Vec x) { return silu(x); });
    case Unary::kHardswish:
      return map(args, begin, end, [](Vec x) { return hardswish(x); });
    case Unary::kHardsigmoid:
      return map(args, begin, end, [](Vec x) { return hardsigmoid(x); });
    case Unary::kGelu:
      return map(args, begin, end, [](Vec x) { return gelu(x); });
    case Unary::kGeluTanh:
      return map(args, begin, end, [](Vec x) { return gelu_tanh(x); });
    case Unary::kTanh:
      return map(args, begin, end, [](Vec x) { return tanh(x); });
    case Unary::kLeakyRelu:
      return map(args, begin, end, [=](Vec x) { return leaky_relu(x, parameter); });
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
