// Normalizations, softmax, scans and the elementwise operators, in any storage type.
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
  args.activation = static_cast<Activation>(between(0, kEpilogueActivations));
  const int64_t tasks = args.inner > 1 ? args.outer * args.channels : args.outer;
  run<BatchNormArgs>("batch_norm", args, &Level::batch_norm, CUDA_KERNEL(batch_norm), tasks, count,
                     offset);
}

const char* name_of(Function function) { return kFunctionNames[static_cast<int64_t>(function)]; }

void unary_case(Function function, DType dtype, const Bytes& x, int64_t offset) {
  UnaryArgs args{};
  const int64_t count = static_cast<int64_t>(x.size / size_of(dtype));
  args.dtype = dtype, args.input = x.data, args.elements = count;
  args.function = function;
  args.parameters[0] = 0.01, args.parameters[1] = 20, args.parameters[2] = 1;
  run<UnaryArgs>(name_of(function), args, &Level::unary, CUDA_KERNEL(unary), count, count, offset);
}

void layer_norm_case() {
  LayerNormArgs args{};
  args.dtype = any_dtype();
  args.rows = between(1, 5), args.terms = one_of({1, 7, 16, 31, 32, 33, 47, 70, 4097});
  const int64_t count = args.rows * args.terms, offset = one_of({0, 1});
  const DType own = size_of(args.dtype) == 2 && between(0, 1) ? DType::kFloat : args.dtype;
  const Bytes x = Bytes::random(count, args.dtype, offset);
  const Bytes weight = Bytes::random(args.terms, own), bias = Bytes::random(args.terms, own);
  args.input = x.data, args.eps = 1e-5, args.subtract_mean = between(0, 1);
  args.weight = {between(0, 1) ? weight.data : nullptr, own};
  args.bias = {between(0, 1) ? bias.data : nullptr, own};
  run<LayerNormArgs>("layer_norm", args, &Level::layer_norm, CUDA_KERNEL(layer_norm), args.rows,
                     count, offset);
}

void group_norm_case() {
  GroupNormArgs args{};
  args.dtype = any_dtype();
  args.batch = between(1, 3), args.groups = one_of({1, 2, 5, 33});
  args.channels = args.groups * one_of({1, 2, 7, 17}), args.pixels = one_of({1, 2, 17, 33, 49});
  args.channels_last = between(0, 1);
  args.together = args.channels_last ? between(1, args.groups) : 1;
  const int64_t count = args.batch * args.channels * args.pixels, offset = one_of({0, 1});
  const DType own = size_of(args.dtype) == 2 && between(0, 1) ? DType::kFloat : args.dtype;
  const Bytes x = Bytes::random(count, args.dtype, offset);
  const Bytes weight = Bytes::random(args.channels, own), bias = Bytes::random(args.channels, own);
  args.input = x.data, args.eps = 1e-5;
  args.weight = {between(0, 1) ? weight.data : nullptr, own};
  args.bias = {between(0, 1) ? bias.data : nullptr, own};
  run<GroupNormArgs>("group_norm", args, &Level::group_norm, CUDA_KERNEL(group_norm),
                     group_norm_tasks(args), count, offset);
}

void softmax_case() {
  SoftmaxArgs args{};
  args.dtype = any_dtype();
  args.outer = between(1, 3), args.terms = one_of({1, 2, 15, 33, 4097});
  args.inner = one_of({1, 1, 2, 17, 70}), args.log = between(0, 1);
  const int64_t count = args.outer * args.terms * args.inner, offset = one_of({0, 1});
  const Bytes x = Bytes::random(count, args.dtype, offset);
  args.input = x.data;
  run<SoftmaxArgs>("softmax", args, &Level::softmax, CUDA_KERNEL(softmax), along_tasks(args), count,
                   offset);
}

void scan_case(Scan scan, const char* name) {
  ScanArgs args{};
  args.dtype = any_dtype(), args.scan = scan;
  args.outer = one_of({1, 2, 33}), args.terms = one_of({1, 2, 15, 33, 100});
  args.inner = one_of({1, 1, 2, 17, 70});
  const int64_t count = args.outer * args.terms * args.inner, offset = one_of({0, 1});
  const Bytes x = between(0, 1) ? Bytes::numbers(count, args.dtype, offset)
                                : Bytes::random(count, args.dtype, offset);
  args.input = x.data;
  run<ScanArgs>(name, args, &Level::scan, CUDA_KERNEL(scan), along_tasks(args), count, offset);
}

void unary_case(Function function) {
  const DType dtype = any_dtype();
  const int64_t count = between(1, 70), offset = one_of({0, 1});
  unary_case(function, dtype, Bytes::random(count, dtype, offset), offset);
}

// Each operand has an element for every one of the result, or one for all.
void binary_case(BinaryFunction function) {
  BinaryArgs args{};
  args.dtype = any_dtype();
  args.function = function;
  args.elements = between(1, 70);
  args.input_step = between(0, 3) > 0, args.other_step = between(0, 3) > 0;
  const int64_t offset = one_of({0, 1});
  const Bytes x = Bytes::random(args.input_step > 0 ? args.elements : 1, args.dtype, offset);
  const Bytes y = Bytes::random(args.other_step > 0 ? args.elements : 1, args.dtype, offset);
  args.input = x.data, args.other = y.data;
  run<BinaryArgs>(kBinaryNames[static_cast<int64_t>(function)], args, &Level::binary,
                  CUDA_KERNEL(binary), args.elements, args.elements, offset);
}

// Every number of 16 bits, and as many of the wider types.
void unary_sweep(Function function) {
  for (const DType dtype : {DType::kFloat, DType::kDouble, DType::kHalf, DType::kBFloat16}) {
    Bytes x = Bytes::random(0x10000, dtype);
    if (size_of(dtype) == 2)
      for (size_t i = 0; i < x.size; ++i)
        x.data[i] = static_cast<unsigned char>(i % 2 == 0 ? i / 2 : i / 2 >> 8);
    unary_case(function, dtype, x, 0);
  }
}

}  // namespace

void typed_cases(int number) {
  for (int i = 0; i < 4; ++i) seed_case("batch_norm", 4 * number + i), batch_norm_case();
  seed_case("layer_norm", number), layer_norm_case();
  seed_case("group_norm", number), group_norm_case();
  seed_case("softmax", number), softmax_case();
  seed_case("cumsum", number), scan_case(Scan::kSum, "cumsum");
  seed_case("cumprod", number), scan_case(Scan::kProduct, "cumprod");
  seed_case("logcumsumexp", number), scan_case(Scan::kLogSumExp, "logcumsumexp");
#define BINARY_CASE(name, function, ...) \
  seed_case(#name, number), binary_case(BinaryFunction::function);
  BNINV_BINARY_FUNCTIONS(BINARY_CASE)
#undef BINARY_CASE
  for (int64_t f = 1; f <= kFunctions; ++f) {
    const Function function = static_cast<Function>(f);
    seed_case(name_of(function), number), unary_case(function);
    if (number == 0) unary_sweep(function);
  }
}
