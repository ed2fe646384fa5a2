// Runs every CPU kernel, at every instruction-set level this machine has, on awkward small shapes. The
// levels' bits must be equal.
//
// Built with the address and undefined-behaviour sanitizers (run.py), and for another machine
// (../aarch64/run.py). Each buffer is a heap block of exactly the elements the kernel may touch, so a
// read or write past either end is an error. With --results all results go to the standard output.
#include "cases.h"

using namespace bninv;

namespace bninv {

int cases = 0, failures = 0;
static bool recording = false;

void canonicalize(void* elements, size_t size, DType dtype) {
  auto* bytes = static_cast<unsigned char*>(elements);
  const size_t step = size_of(dtype);
  const uint64_t magnitude = ~uint64_t{0} >> (65 - 8 * step);
  const uint64_t infinity = dtype == DType::kDouble  ? 0x7ff0000000000000
                            : dtype == DType::kFloat ? 0x7f800000
                            : dtype == DType::kHalf  ? 0x7c00
                                                     : 0x7f80;
  for (size_t i = 0; i < size; i += step) {
    uint64_t bits = 0;  // both machines are little-endian
    std::memcpy(&bits, bytes + i, step);
    if ((bits & magnitude) > infinity) std::memset(bytes + i, 0xff, step);
  }
}

void record(const char* level, const char* name, DType dtype, const void* elements, size_t size) {
  if (!recording) return;
  constexpr const char* kTypes[] = {"float32", "float64", "float16", "bfloat16"};
  std::printf("%s\t%s %s\t%zu\n", level, name, kTypes[static_cast<int>(dtype)], size);
  std::fwrite(elements, 1, size, stdout);
}

}  // namespace bninv

namespace {

// Exactly `size` floats on the heap.
struct Buffer {
  int64_t size;
  std::unique_ptr<float[]> data;

  explicit Buffer(int64_t n) : size(n), data(new float[static_cast<size_t>(n)]) {}

  static Buffer random(int64_t n, bool specials = false) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    constexpr float kSpecial[] = {0.0f, -0.0f, kInf, -kInf, 1e-42f, -3e38f, 88.8f, -104.0f};
    Buffer buffer(n);
    for (int64_t i = 0; i < n; ++i) {
      buffer.data[i] = static_cast<float>(between(-100000, 100000)) * 1.1e-5f;
      if (specials && between(0, 7) == 0) buffer.data[i] = kSpecial[between(0, 7)];
      if (specials && between(0, 63) == 0) buffer.data[i] = std::numeric_limits<float>::quiet_NaN();
    }
    return buffer;
  }
};

// Runs tasks [0, tasks) at each level; all levels must give the same bits.
template <typename Args, typename Member>
void run(const char* name, Args args, Member kernel, int64_t tasks, int64_t outputs) {
  ++cases;
  std::vector<float> expected;
  for (const Level& level : levels()) {
    Buffer output(outputs);
    for (int64_t i = 0; i < outputs; ++i) output.data[i] = -7777.0f;
    args.output = output.data.get();
    run_level(level, kernel, args, tasks);
    const size_t bytes = static_cast<size_t>(outputs) * sizeof(float);
    canonicalize(output.data.get(), bytes, DType::kFloat);
    record(level.name, name, DType::kFloat, output.data.get(), bytes);
    if (expected.empty()) expected.assign(output.data.get(), output.data.get() + outputs);
    for (int64_t i = 0; i < outputs; ++i) {
      const float a = expected[static_cast<size_t>(i)], b = output.data[i];
      if (std::memcmp(&a, &b, sizeof(a)) == 0) continue;
      std::fprintf(
          stderr, "%s, case %d: element %lld of %lld is %a at level scalar, %a at level %s\n", name,
          cases, static_cast<long long>(i), static_cast<long long>(outputs), a, b, level.name);
      ++failures;
      break;
    }
  }
}

void linear_case() {
  LinearArgs args{};
  const int64_t rows = one_of({1, 1, 2, 3, 13, 15, 29, 100});
  const int64_t columns = one_of({1, 5, 8, 15, 16, 17, 31, 33, 65, 130, 260});
  const int64_t terms = one_of({0, 1, 7, 127, 128, 129, 257});
  args.gemm = gemm_schedule(rows, columns, terms, 1, between(1, 4));
  args.input_stride = terms + between(0, 3);
  // The last row ends with its last term: the gap between rows is not the kernel's to read.
  const Buffer x = Buffer::random((rows - 1) * args.input_stride + terms);
  const Buffer weight = Buffer::random(terms * columns), bias = Buffer::random(columns);
  args.input = x.data.get(), args.weight = weight.data.get();
  args.bias = between(0, 1) ? bias.data.get() : nullptr;
  run("linear", args, &Level::linear, args.gemm.row_blocks * args.gemm.column_blocks,
      rows * columns);
}

// Sizes and strides of a convolution whose windows fit; the output in NHWC or NCHW order.
Conv2dArgs conv_geometry() {
  Conv2dArgs args{};
  do {
    args.height = between(1, 9), args.width = between(1, 9);
    args.kernel_h = one_of({1, 1, 2, 3, 5}), args.kernel_w = one_of({1, 1, 2, 3, 5});
    args.step_h = between(1, 3), args.step_w = between(1, 3);
    args.pad_h = between(0, 3), args.pad_w = between(0, 3);
    args.dilation_h = between(1, 2), args.dilation_w = between(1, 2);
    const int64_t room_h = args.height + 2 * args.pad_h - args.dilation_h * (args.kernel_h - 1) - 1;
    const int64_t room_w = args.width + 2 * args.pad_w - args.dilation_w * (args.kernel_w - 1) - 1;
    args.out_height = room_h < 0 ? 0 : room_h / args.step_h + 1;
    args.out_width = room_w < 0 ? 0 : room_w / args.step_w + 1;
  } while (args.out_height == 0 || args.out_width == 0);
  args.batch = between(1, 3);
  return args;
}

enum class Conv { kProduct, kDepthwise, kGrouped };

void conv_case(Conv kind) {
  Conv2dArgs args = conv_geometry();
  const bool depthwise = kind == Conv::kDepthwise, grouped = kind == Conv::kGrouped;
  args.groups = depthwise ? one_of({1, 3, 16, 17, 70, 131})
                : grouped ? one_of({2, 3, 5, 16, 33})
                          : one_of({1, 1, 2, 3});
  // Grouped: lanes of one group, of several whole groups, and neither.
  const int64_t equal = one_of({1, 2, 4, 8, 16, 32, 3, 7});
  const int64_t in_group = depthwise ? 1 : grouped ? equal : one_of({1, 3, 8, 17, 33, 130});
  const int64_t out_group = depthwise ? 1
                            : grouped ? (between(0, 2) ? equal : one_of({1, 5, 8, 16, 40}))
                                      : one_of({1, 5, 16, 17, 40, 70});
  args.channels = args.groups * in_group, args.out_channels = args.groups * out_group;
  args.stride_w = args.channels, args.stride_h = args.width * args.stride_w;
  args.stride_n = args.height * args.stride_h;
  const int64_t pixels = args.out_height * args.out_width;
  const bool nhwc = between(0, 1);
  args.out_stride_c = nhwc ? 1 : pixels;
  args.out_stride_w = nhwc ? args.out_channels : 1;
  args.out_stride_h = args.out_width * args.out_stride_w;
  args.out_stride_n = args.out_channels * pixels;
  const int64_t terms = args.kernel_h * args.kernel_w * in_group;
  args.gemm = gemm_schedule(args.batch * pixels, out_group, terms, args.groups, between(1, 4));
  const Buffer x = Buffer::random(args.batch * args.stride_n);
  const Buffer weight = Buffer::random(terms * args.out_channels);
  const Buffer bias = Buffer::random(args.out_channels);
  args.input = x.data.get(), args.weight = weight.data.get();
  args.bias = between(0, 1) ? bias.data.get() : nullptr;
  const int64_t outputs = args.batch * args.out_stride_n;
  if (depthwise)
    run("conv2d_depthwise", args, &Level::conv2d_depthwise, depthwise_tasks(args), outputs);
  else if (grouped)
    run("conv2d_grouped", args, &Level::conv2d_grouped,
        grouped_blocks(args).rows * grouped_blocks(args).channels, outputs);
  else
    run("conv2d", args, &Level::conv2d,
        args.groups * args.gemm.row_blocks * args.gemm.column_blocks, outputs);
}

void pool_case(bool average) {
  const Conv2dArgs geometry = conv_geometry();
  Pool2dArgs args{};
  args.batch = geometry.batch, args.channels = one_of({1, 3, 8, 15, 16, 17, 40});
  args.height = geometry.height, args.width = geometry.width;
  args.stride_w = args.channels, args.stride_h = args.width * args.stride_w;
  args.stride_n = args.height * args.stride_h;
  args.kernel_h = geometry.kernel_h, args.kernel_w = geometry.kernel_w;
  args.step_h = geometry.step_h, args.step_w = geometry.step_w;
  args.dilation_h = args.dilation_w = average ? 1 : between(1, 2);
  // Padding is at most half a window.
  args.pad_h = between(0, args.kernel_h / 2), args.pad_w = between(0, args.kernel_w / 2);
  args.adaptive = between(0, 2) == 0;
  args.count_include_pad = between(0, 1), args.divisor = one_of({0, 0, 3});
  const auto out = [](int64_t size, int64_t kernel, int64_t step, int64_t pad, int64_t dilation) {
    const int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / step + 1;
  };
  args.out_height = args.adaptive
                        ? between(1, 12)
                        : out(args.height, args.kernel_h, args.step_h, args.pad_h, args.dilation_h);
  args.out_width = args.adaptive
                       ? between(1, 12)
                       : out(args.width, args.kernel_w, args.step_w, args.pad_w, args.dilation_w);
  const Buffer x = Buffer::random(args.batch * args.stride_n, true);
  args.input = x.data.get();
  const int64_t outputs = args.batch * args.out_height * args.out_width * args.channels;
  run(average ? "avg_pool2d" : "max_pool2d", args,
      average ? &Level::avg_pool2d : &Level::max_pool2d, args.batch * args.out_height, outputs);
}

void sum_case() {
  // Up to four dimensions in memory order, each kept or reduced.
  ReduceArgs args{};
  const int64_t dims = between(1, 4);
  int64_t stride = 1, outputs = 1;
  args.terms = 1;
  for (int64_t d = 0; d < dims; ++d) {
    const int64_t size = one_of({1, 2, 5, 16, 33, 70});
    if (stride * size > 300000) break;
    // The fastest dimension in memory comes first or last in the sum's order of terms.
    if (between(0, 1)) {
      args.kept_sizes[args.kept_dims] = size, args.kept_strides[args.kept_dims++] = stride;
      outputs *= size;
    } else {
      args.reduced_sizes[args.reduced_dims] = size;
      args.reduced_strides[args.reduced_dims++] = stride;
      args.terms *= size;
    }
    stride *= size;
  }
  const Buffer x = Buffer::random(stride);
  if (args.kept_dims == 0) args.kept_sizes[args.kept_dims++] = 1;
  if (args.reduced_dims == 0) args.reduced_sizes[args.reduced_dims++] = 1;
  args.input = x.data.get(), args.divisor = between(1, 50);
  const int64_t row = args.kept_sizes[args.kept_dims - 1];
  const int64_t blocks = (row + ReduceArgs::kTaskOutputs - 1) / ReduceArgs::kTaskOutputs;
  run("sum", args, &Level::sum, outputs / row * blocks, outputs);
}

}  // namespace

int main(int count, char** arguments) {
  recording = count > 1 && std::strcmp(arguments[1], "--results") == 0;
  for (int i = 0; i < 60; ++i) {
    seed_case("vec", i), vec_case();
    seed_case("linear", i), linear_case();
    seed_case("conv2d", i), conv_case(Conv::kProduct);
    seed_case("conv2d_depthwise", i), conv_case(Conv::kDepthwise);
    seed_case("conv2d_grouped", i), conv_case(Conv::kGrouped);
    seed_case("avg_pool2d", i), pool_case(true);
    seed_case("max_pool2d", i), pool_case(false);
    seed_case("sum", i), sum_case();
    typed_cases(i);
  }
  std::string names;
  for (const Level& level : levels()) names += std::string(" ") + level.name;
  std::fprintf(stderr, "bninv: %d cases at levels%s, %d failures\n", cases, names.c_str(),
               failures);
  return failures == 0 ? 0 : 1;
}
