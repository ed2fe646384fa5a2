// batch_norm and the elementwise operators, in any storage type.
#include "buffers.h"

using namespace bninv;

namespace {

void batch_norm_case() {
  BatchNormArgs args{};
  args.dtype = any_dtype();
  args.outer = between(1, 4), args.channels = between(1, 70);
  args.inner = one_of({1, 1, 2, 7, 15, 16, 17, 49, 600});
  const int64_t count = args.outer * args.channels * args.inner, offset = one_of({0, 0, 1, 3});
  const bool narrow = size_of(args.dtype) == 2;
  const DType own = narrow && between(0, 1) ? DType::kFloat : args.dtype;
  const Bytes x = Bytes::random(count, args.dtype, offset);
  const Bytes residual = Bytes::random(count, args.dtype, offset);
  const Bytes parameters[] = {Bytes::random(args.channels, own), Bytes::random(args.channels, own),
                              Bytes::random(args.channels, own), Bytes::random(args.channels, own)};
  args.input = x.data;
  args.residual = between(0, 1) ? residual.data : nullptr;
  args.running_mean = {parameters[0].data, own};
  args.running_var = {parameters[1].data, own};
  args.weight = {between(0, 1) ? parameters[2].data : nullptr, own};
  args.bias = {between(0, 1) ? parameters[3].data : nullptr, own};
  args.eps = 1e-5, args.negative_slope = 0.1;
  args.activation = static_cast<Activation>(between(0, 5));
  if (args.dtype == DType::kDouble && args.activation == Activation::kSilu)
    args.activation = Activation::kNone;
  const int64_t tasks = args.inner > 1 ? args.outer * args.channels : args.outer;
  run("batch_norm", args, &Level::batch_norm, cuda::batch_norm, tasks, count, offset);
}

void unary_case(Activation function) {
  UnaryArgs args{};
  args.dtype = any_dtype();
  const bool piecewise = function <= Activation::kRelu6 || function == Activation::kHardswish ||
                         function == Activation::kLeakyRelu || function == Activation::kHardsigmoid;
  if (args.dtype == DType::kDouble && !piecewise) args.dtype = DType::kHalf;
  const int64_t count = between(1, 70), offset = one_of({0, 1});
  const Bytes x = Bytes::random(count, args.dtype, offset);
  args.input = x.data, args.function = function, args.negative_slope = 0.01;
  run<UnaryArgs>("unary", args, &Level::unary, nullptr, count, count, offset);
}

}  // namespace

void elementwise_cases() {
  for (int i = 0; i < 4; ++i) batch_norm_case();
  for (int64_t f = 1; f <= static_cast<int64_t>(Activation::kTanh); ++f)
    unary_case(static_cast<Activation>(f));
}
