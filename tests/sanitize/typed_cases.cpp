// The operators that take several storage types: each CPU level, and the CUDA kernel under emulation,
// must give the bits of the scalar level, in heap blocks of exactly the bytes they may touch.
#include "cases.h"

using namespace bninv;

namespace {

size_t size_of(DType dtype) { return dtype == DType::kDouble ? 8 : dtype == DType::kFloat ? 4 : 2; }

// Elements of any storage type, `offset` elements past the block's own alignment.
struct Bytes {
  std::unique_ptr<unsigned char[]> block;
  size_t size;
  unsigned char* data;

  Bytes(int64_t count, DType dtype, int64_t offset = 0)
      : block(new unsigned char[static_cast<size_t>(count + offset) * size_of(dtype)]),
        size(static_cast<size_t>(count) * size_of(dtype)),
        data(block.get() + static_cast<size_t>(offset) * size_of(dtype)) {
    for (size_t i = 0; i < size; ++i) data[i] = 0xff;
  }

  // Every pattern: NaN, infinities and subnormal numbers are common.
  static Bytes random(int64_t count, DType dtype, int64_t offset = 0) {
    Bytes bytes(count, dtype, offset);
    for (size_t i = 0; i < bytes.size; ++i) bytes.data[i] = static_cast<unsigned char>(engine());
    return bytes;
  }
};

bool is_nan(const unsigned char* element, DType dtype) {
  uint64_t bits = 0;
  std::memcpy(&bits, element, size_of(dtype));
  switch (dtype) {
    case DType::kDouble:
      return (bits & 0x7fffffffffffffff) > 0x7ff0000000000000;
    case DType::kFloat:
      return (bits & 0x7fffffff) > 0x7f800000;
    case DType::kHalf:
      return (bits & 0x7fff) > 0x7c00;
    default:
      return (bits & 0x7fff) > 0x7f80;
  }
}

void compare(const char* name, const char* level, DType dtype, const Bytes& expected,
             const Bytes& actual) {
  for (size_t i = 0; i < expected.size; i += size_of(dtype)) {
    const unsigned char *a = expected.data + i, *b = actual.data + i;
    if (std::memcmp(a, b, size_of(dtype)) == 0 || (is_nan(a, dtype) && is_nan(b, dtype))) continue;
    std::printf("%s, case %d, dtype %d: element %zu differs at level %s\n", name, cases,
                static_cast<int>(dtype), i / size_of(dtype), level);
    ++failures;
    return;
  }
}

// Tasks [0, tasks) in up to three ranges at each level; `cuda` is the kernel's launcher, if it has one.
template <typename Args, typename Member>
void run(const char* name, Args args, Member kernel, void (*cuda)(const Args&, void*),
         int64_t tasks, int64_t outputs, int64_t offset) {
  ++cases;
  Bytes expected(0, args.dtype);
  for (const Level& level : levels()) {
    Bytes output(outputs, args.dtype, offset);
    args.output = output.data;
    const int64_t first = between(0, tasks), second = between(first, tasks);
    (level.*kernel)(args, 0, first);
    (level.*kernel)(args, first, second);
    (level.*kernel)(args, second, tasks);
    if (expected.size == 0)
      expected = std::move(output);
    else
      compare(name, level.name, args.dtype, expected, output);
  }
  if (cuda == nullptr) return;
  Bytes output(outputs, args.dtype, offset);
  args.output = output.data;
  cuda(args, nullptr);
  compare(name, "cuda", args.dtype, expected, output);
}

DType any_dtype() { return static_cast<DType>(between(0, 3)); }

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
  run<LayerNormArgs>("layer_norm", args, &Level::layer_norm, nullptr, args.rows, count, offset);
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
  run<GroupNormArgs>("group_norm", args, &Level::group_norm, nullptr, group_norm_tasks(args), count,
                     offset);
}

void softmax_case() {
  SoftmaxArgs args{};
  args.dtype = any_dtype();
  if (args.dtype == DType::kDouble) args.dtype = DType::kFloat;
  args.outer = between(1, 3), args.terms = one_of({1, 2, 15, 33, 4097});
  args.inner = one_of({1, 1, 2, 17, 70}), args.log = between(0, 1);
  const int64_t count = args.outer * args.terms * args.inner, offset = one_of({0, 1});
  const Bytes x = Bytes::random(count, args.dtype, offset);
  args.input = x.data;
  run<SoftmaxArgs>("softmax", args, &Level::softmax, nullptr, softmax_tasks(args), count, offset);
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

void typed_cases() {
  for (int i = 0; i < 4; ++i) batch_norm_case();
  layer_norm_case();
  group_norm_case();
  softmax_case();
  for (int64_t f = 1; f <= static_cast<int64_t>(Activation::kTanh); ++f)
    unary_case(static_cast<Activation>(f));
}
