// Convolution, linear and products of batches, in any storage type, alone and with an epilogue.
#include "buffers.h"
#include "geometry.h"

using namespace bninv;

namespace {

// Some of what may follow `outputs` elements of `channels` channels, and the memory it points into.
struct RandomEpilogue {
  Bytes residual, mean, variance, weight, bias;
  Epilogue value{};

  RandomEpilogue(DType dtype, DType own, int64_t channels, int64_t outputs, int64_t offset)
      : residual(Bytes::random(outputs, dtype, offset)),
        mean(Bytes::numbers(channels, own)),
        variance(Bytes::random(channels, own)),
        weight(Bytes::numbers(channels, own)),
        bias(Bytes::numbers(channels, own)) {
    value.normalizes = between(0, 3) > 0;
    if (value.normalizes) {
      value.running_mean = {mean.data, own};
      value.running_var = {variance.data, own};
      value.weight = {between(0, 2) ? weight.data : nullptr, own};
      value.bias = {between(0, 2) ? bias.data : nullptr, own};
      value.eps = 1e-5;
    }
    value.residual = between(0, 1) ? residual.data : nullptr;
    value.activation = static_cast<Activation>(between(0, 5));
    if (dtype == DType::kDouble && value.activation == Activation::kSilu)
      value.activation = Activation::kHardswish;
    value.negative_slope = 0.1;
  }
};

RandomEpilogue random_epilogue(DType dtype, int64_t channels, int64_t outputs, int64_t offset) {
  const bool narrow = size_of(dtype) == 2;
  const DType own = narrow && between(0, 1) ? DType::kFloat : dtype;
  return RandomEpilogue(dtype, own, channels, outputs, offset);
}

void linear_case(bool fused, bool exponential = false) {
  LinearArgs args{};
  args.dtype = any_dtype();
  const int64_t rows = one_of({1, 1, 2, 3, 13, 15, 29, 100});
  const int64_t columns = one_of({1, 5, 8, 15, 16, 17, 31, 33, 65, 130, 260});
  const int64_t terms = one_of({0, 1, 7, 127, 128, 129, 257});
  args.gemm = gemm_schedule(rows, columns, terms, 1, between(1, 4));
  args.input_stride = terms + between(0, 3);
  // The last row ends with its last term: the gap between rows is not the kernel's to read.
  const Bytes x = Bytes::numbers((rows - 1) * args.input_stride + terms, args.dtype);
  const Bytes weight = Bytes::numbers(terms * columns, args.dtype);
  const Bytes bias = Bytes::numbers(columns, args.dtype);
  args.input = x.data, args.weight = weight.data;
  args.bias = between(0, 1) ? bias.data : nullptr;
  const int64_t offset = between(0, 1);
  const auto run_case = [&](const char* name) {
    run<LinearArgs>(name, args, &Level::linear, PLANNED_CUDA_KERNEL(plan_linear, linear),
                    args.gemm.row_blocks * args.gemm.column_blocks, rows * columns, offset);
  };
  if (!fused) return run_case("linear");
  const RandomEpilogue epilogue = random_epilogue(args.dtype, columns, rows * columns, offset);
  args.epilogue = epilogue.value;
  if (exponential) {
    const auto last = static_cast<int64_t>(kLastEpilogue);
    args.epilogue.activation =
        static_cast<Activation>(between(static_cast<int64_t>(Activation::kSigmoid), last));
  }
  run_case(exponential ? "linear_exponential" : "linear_fused");
}

// A batch of matrices in exactly the elements that its strides reach: any dimension may be dense, have
// gaps, or be the same all over.
struct RandomMatrices {
  MatrixStrides strides;
  Bytes memory;

  RandomMatrices(DType dtype, int64_t batch, int64_t rows, int64_t columns, bool dense_rows)
      : strides(random_strides(batch, rows, columns, dense_rows)),
        memory(Bytes::numbers(rows * columns == 0
                                  ? 0
                                  : 1 + (batch - 1) * strides.sample + (rows - 1) * strides.row +
                                        (columns - 1) * strides.column,
                              dtype)) {}

 private:
  static MatrixStrides random_strides(int64_t batch, int64_t rows, int64_t columns,
                                      bool dense_rows) {
    const int64_t gap = between(0, 2), order = dense_rows ? 0 : between(0, 3);
    MatrixStrides strides{};
    if (order == 0) strides = {rows * (columns + gap), columns + gap, 1};
    if (order == 1) strides = {columns * (rows + gap), 1, rows + gap};
    if (order == 2) strides = {1, batch, batch * rows};
    if (order == 3) strides = {rows * (2 * columns + gap), 2 * columns + gap, 2};
    if (between(0, 3) == 0) strides.sample = 0;
    return strides;
  }
};

void bmm_case(bool cuda) {
  BmmArgs args{};
  args.dtype = any_dtype();
  args.batch = one_of({1, 2, 3, 5});
  const int64_t rows = one_of({1, 2, 5, 13, 15, 29, 49});
  const int64_t columns = one_of({1, 5, 16, 17, 31, 32, 33, 49, 65});
  const int64_t terms = one_of({0, 1, 7, 32, 49, 128, 129, 257});
  args.gemm = gemm_schedule(rows, columns, terms, args.batch, between(1, 4));
  const RandomMatrices left(args.dtype, args.batch, rows, terms, cuda);
  const RandomMatrices right(args.dtype, args.batch, terms, columns, cuda);
  args.input = left.memory.data, args.input_strides = left.strides;
  args.mat2 = right.memory.data, args.mat2_strides = right.strides;
  // The same samples in two groups, where there are as many: the CPU's kernel knows of them.
  args.samples = args.batch % 2 == 0 ? args.batch / 2 : args.batch;
  for (MatrixStrides* strides : {&args.input_strides, &args.mat2_strides})
    strides->group = args.samples * strides->sample;
  const int64_t outputs = args.batch * rows * columns, offset = between(0, 1);
  const Bytes addend = Bytes::random(outputs, args.dtype, offset);
  if (between(0, 2) == 0) {
    args.epilogue.scales = true, args.epilogue.alpha = 0.7, args.epilogue.beta = -1.3;
    args.epilogue.residual = between(0, 1) ? addend.data : nullptr;
  }
  void (*launcher)(const BmmArgs&, void*) = nullptr;
  if (cuda) launcher = PLANNED_CUDA_KERNEL(plan_bmm, bmm);
  run<BmmArgs>(cuda ? "bmm" : "bmm_strided", args, &Level::bmm, launcher,
               args.batch * args.gemm.row_blocks * args.gemm.column_blocks, outputs, offset);
}

enum class Conv { kProduct, kDepthwise, kGrouped, kTensor };

void conv_case(Conv kind, bool fused) {
  Conv2dArgs args = conv_geometry();
  args.dtype = any_dtype();
  const bool depthwise = kind == Conv::kDepthwise, grouped = kind == Conv::kGrouped;
  const bool tensor = kind == Conv::kTensor;
  if (tensor) {
    args.dtype = between(0, 2) == 0 ? DType::kFloat : static_cast<DType>(between(2, 3));
    args.precision = between(0, 1) ? Precision::kTensorA : Precision::kTensorH;
  }
  args.groups = depthwise ? one_of({1, 3, 16, 17, 70, 131})
                : grouped ? one_of({2, 3, 5, 16, 33})
                : tensor  ? one_of({1, 1, 1, 2})
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
  const bool hostile = tensor && between(0, 3) == 0;
  const auto numbers = [&](int64_t count) {
    return hostile ? Bytes::random(count, args.dtype) : Bytes::numbers(count, args.dtype);
  };
  const Bytes x = numbers(args.batch * args.stride_n);
  const Bytes weight = numbers(terms * args.out_channels);
  const Bytes bias = Bytes::numbers(args.out_channels, args.dtype);
  args.input = x.data, args.weight = weight.data;
  args.bias = between(0, 1) ? bias.data : nullptr;
  const int64_t outputs = args.batch * args.out_stride_n, offset = between(0, 1);
  const auto run_case = [&](const std::string& suffix) {
    if (depthwise)
      run<Conv2dArgs>(("conv2d_depthwise" + suffix).c_str(), args, &Level::conv2d_depthwise,
                      PLANNED_CUDA_KERNEL(plan_conv2d, conv2d_depthwise), depthwise_tasks(args),
                      outputs, offset);
    else if (grouped)
      run<Conv2dArgs>(("conv2d_grouped" + suffix).c_str(), args, &Level::conv2d_grouped,
                      PLANNED_CUDA_KERNEL(plan_conv2d, conv2d_grouped),
                      grouped_blocks(args).rows * grouped_blocks(args).channels, outputs, offset);
    else if (tensor)  // the GPU's, which is of one class, has tests of its own
      run<Conv2dArgs>(("conv2d_tensor" + suffix).c_str(), args, &Level::conv2d_tensor, nullptr,
                      args.groups * args.gemm.row_blocks * args.gemm.column_blocks, outputs,
                      offset);
    else
      run<Conv2dArgs>(("conv2d" + suffix).c_str(), args, &Level::conv2d,
                      PLANNED_CUDA_KERNEL(plan_conv2d, conv2d),
                      args.groups * args.gemm.row_blocks * args.gemm.column_blocks, outputs,
                      offset);
  };
  if (!fused) return run_case("");
  const RandomEpilogue epilogue = random_epilogue(args.dtype, args.out_channels, outputs, offset);
  args.epilogue = epilogue.value;
  run_case("_fused");
}

}  // namespace

void product_cases(int number) {
  for (int i = 2 * number; i < 2 * number + 2; ++i) {
    seed_case("linear", i), linear_case(false);
    seed_case("bmm", i), bmm_case(true);
    seed_case("bmm_strided", i), bmm_case(false);
    seed_case("conv2d", i), conv_case(Conv::kProduct, false);
    seed_case("conv2d_depthwise", i), conv_case(Conv::kDepthwise, false);
    seed_case("conv2d_grouped", i), conv_case(Conv::kGrouped, false);
    seed_case("conv2d_tensor", i), conv_case(Conv::kTensor, false);
    seed_case("linear_fused", i), linear_case(true);
    seed_case("linear_exponential", i), linear_case(true, true);
    seed_case("conv2d_fused", i), conv_case(Conv::kProduct, true);
    seed_case("conv2d_depthwise_fused", i), conv_case(Conv::kDepthwise, true);
    seed_case("conv2d_grouped_fused", i), conv_case(Conv::kGrouped, true);
    seed_case("conv2d_tensor_fused", i), conv_case(Conv::kTensor, true);
  }
}
