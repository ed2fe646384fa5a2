// conv3d, the transposed convolutions and 3-d pooling, in any storage type.
#include "buffers.h"
#include "cpu/conv3d_regions.h"

using namespace bninv;

namespace {

// Sizes of which the windows fit, or of which a transposed convolution leaves something.
Conv3dArgs volume_geometry(bool transposed) {
  Conv3dArgs args{};
  args.transposed = transposed;
  const auto line = [&](int64_t& size, int64_t& kernel, int64_t& step, int64_t& pad,
                        int64_t& dilation, int64_t& out) {
    do {
      size = between(1, 5), kernel = one_of({1, 1, 2, 3, 4}), step = between(1, 3);
      pad = between(0, 2), dilation = between(1, 3);
      const int64_t reach = dilation * (kernel - 1);
      const int64_t extra = between(0, std::max(step, dilation) - 1);
      const int64_t room = size + 2 * pad - reach - 1;
      out = transposed ? (size - 1) * step - 2 * pad + reach + extra + 1
            : room < 0 ? 0
                       : room / step + 1;
    } while (out < 1);
  };
  line(args.depth, args.kernel_d, args.step_d, args.pad_d, args.dilation_d, args.out_depth);
  line(args.height, args.kernel_h, args.step_h, args.pad_h, args.dilation_h, args.out_height);
  line(args.width, args.kernel_w, args.step_w, args.pad_w, args.dilation_w, args.out_width);
  args.batch = between(1, 2);
  return args;
}

void volume_case(const char* name, bool transposed, bool depthwise) {
  Conv3dArgs args = volume_geometry(transposed);
  args.dtype = any_dtype();
  args.groups = depthwise ? one_of({2, 3, 16, 17, 70}) : one_of({1, 1, 2, 3});
  const int64_t in_group = depthwise ? 1 : one_of({1, 3, 8, 17, 33});
  const int64_t out_group = depthwise ? 1 : one_of({1, 5, 16, 17, 40});
  args.channels = args.groups * in_group, args.out_channels = args.groups * out_group;
  args.stride_w = args.channels, args.stride_h = args.width * args.stride_w;
  args.stride_d = args.height * args.stride_h, args.stride_n = args.depth * args.stride_d;
  const int64_t voxels = args.out_depth * args.out_height * args.out_width;
  const bool channels_last = between(0, 1);
  args.out_stride_c = channels_last ? 1 : voxels;
  args.out_stride_w = channels_last ? args.out_channels : 1;
  args.out_stride_h = args.out_width * args.out_stride_w;
  args.out_stride_d = args.out_height * args.out_stride_h;
  args.out_stride_n = args.out_channels * voxels;
  const int64_t terms = args.kernel_d * args.kernel_h * args.kernel_w * in_group;
  args.gemm.rows = args.batch * voxels, args.gemm.columns = out_group, args.gemm.terms = terms;
  const ConvRegions all = conv_regions(args, depthwise, between(1, 4));
  args.regions = all.regions.data();
  args.region_count = static_cast<int64_t>(all.regions.size());
  const Bytes x = Bytes::numbers(args.batch * args.stride_n, args.dtype);
  // Random bits now and then: no infinite weight may show where its tap is absent.
  const Bytes weight = between(0, 3) ? Bytes::numbers(terms * args.out_channels, args.dtype)
                                     : Bytes::random(terms * args.out_channels, args.dtype);
  const Bytes bias = Bytes::numbers(args.out_channels, args.dtype);
  args.input = x.data, args.weight = weight.data;
  args.bias = between(0, 1) ? bias.data : nullptr;
  const int64_t outputs = args.batch * args.out_stride_n, offset = between(0, 1);
  if (depthwise)
    run<Conv3dArgs>(name, args, &Level::conv3d_depthwise,
                    PLANNED_CUDA_KERNEL(plan_conv3d, conv3d_depthwise), all.tasks, outputs, offset);
  else if (transposed || (args.groups > 1 && out_group < 32))
    run<Conv3dArgs>(name, args, &Level::conv3d, PLANNED_CUDA_KERNEL(plan_conv3d, conv3d_direct),
                    all.tasks, outputs, offset);
  else
    run<Conv3dArgs>(name, args, &Level::conv3d, PLANNED_CUDA_KERNEL(plan_conv3d, conv3d), all.tasks,
                    outputs, offset);
}

void pool_case(bool average) {
  const Conv3dArgs geometry = volume_geometry(false);
  Pool3dArgs args{};
  args.dtype = any_dtype();
  args.batch = geometry.batch, args.channels = one_of({1, 3, 8, 15, 16, 17, 40});
  args.adaptive = between(0, 2) == 0;
  args.count_include_pad = between(0, 1), args.divisor = one_of({0, 0, 3});
  const auto line = [&](int64_t size, int64_t kernel, int64_t& own_size, int64_t& own_kernel,
                        int64_t& step, int64_t& pad, int64_t& dilation, int64_t& out) {
    own_size = size, own_kernel = kernel, step = between(1, 3);
    pad = between(0, kernel / 2);  // at most half a window
    dilation = average ? 1 : between(1, 2);
    const int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1;
    out = args.adaptive ? between(1, 6) : room < 0 ? 0 : room / step + 1;
  };
  line(geometry.depth, geometry.kernel_d, args.depth, args.kernel_d, args.step_d, args.pad_d,
       args.dilation_d, args.out_depth);
  line(geometry.height, geometry.kernel_h, args.height, args.kernel_h, args.step_h, args.pad_h,
       args.dilation_h, args.out_height);
  line(geometry.width, geometry.kernel_w, args.width, args.kernel_w, args.step_w, args.pad_w,
       args.dilation_w, args.out_width);
  args.stride_w = args.channels, args.stride_h = args.width * args.stride_w;
  args.stride_d = args.height * args.stride_h, args.stride_n = args.depth * args.stride_d;
  const int64_t count = args.batch * args.stride_n;
  // Every pattern for maxima; averages of them would be NaN.
  const Bytes x = average && between(0, 3) ? Bytes::numbers(count, args.dtype)
                                           : Bytes::random(count, args.dtype);
  args.input = x.data;
  const int64_t lines = args.batch * args.out_depth * args.out_height;
  run<Pool3dArgs>(average ? "avg_pool3d" : "max_pool3d", args,
                  average ? &Level::avg_pool3d : &Level::max_pool3d,
                  average ? CUDA_KERNEL(avg_pool3d) : CUDA_KERNEL(max_pool3d), lines,
                  lines * args.out_width * args.channels, between(0, 1));
}

}  // namespace

void volume_cases(int number) {
  for (int i = 2 * number; i < 2 * number + 2; ++i) {
    seed_case("conv3d", i), volume_case("conv3d", false, false);
    seed_case("conv3d_depthwise", i), volume_case("conv3d_depthwise", false, true);
    seed_case("conv_transpose", i), volume_case("conv_transpose", true, false);
    seed_case("conv_transpose_depthwise", i), volume_case("conv_transpose_depthwise", true, true);
    seed_case("avg_pool3d", i), pool_case(true);
    seed_case("max_pool3d", i), pool_case(false);
  }
}
