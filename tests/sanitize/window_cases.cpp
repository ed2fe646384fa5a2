// Pooling, resampling, sums and means, in any storage type.
#include "buffers.h"
#include "geometry.h"

using namespace bninv;

namespace {

void pool_case(bool average) {
  const Conv2dArgs geometry = conv_geometry();
  Pool2dArgs args{};
  args.dtype = any_dtype();
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
  // Every pattern for maxima; averages of them would be NaN.
  const int64_t count = args.batch * args.stride_n;
  const Bytes x = average && between(0, 3) ? Bytes::numbers(count, args.dtype)
                                           : Bytes::random(count, args.dtype);
  args.input = x.data;
  const int64_t outputs = args.batch * args.out_height * args.out_width * args.channels;
  run<Pool2dArgs>(average ? "avg_pool2d" : "max_pool2d", args,
                  average ? &Level::avg_pool2d : &Level::max_pool2d,
                  average ? CUDA_KERNEL(avg_pool2d) : CUDA_KERNEL(max_pool2d),
                  args.batch * args.out_height, outputs, between(0, 1));
}

void resample_case() {
  ResampleArgs args{};
  args.dtype = any_dtype();
  args.interpolation = between(0, 1) ? Interpolation::kCubic : Interpolation::kLinear;
  args.align_corners = between(0, 1), args.antialias = between(0, 1);
  const bool volume = args.interpolation == Interpolation::kLinear && !args.antialias;
  args.batch = between(1, 2), args.channels = one_of({1, 3, 8, 15, 16, 17, 40});
  for (int d = 0; d < 3; ++d) {
    const bool is_there = d > 0 || volume;
    args.size[d] = is_there ? between(1, d == 2 ? 40 : 9) : 1;
    args.out_size[d] = is_there ? between(1, d == 2 ? 40 : 9) : 1;
    const double scale = between(0, 1) ? 0 : static_cast<double>(between(1, 40)) / 8;
    const auto step = [&](auto zero) {
      return common::resample_step<decltype(zero)>(args.size[d], args.out_size[d],
                                                   args.align_corners, scale);
    };
    args.step[d] = args.dtype == DType::kDouble ? step(0.0) : step(0.0f);
  }
  args.channels_last = between(0, 1);
  const int64_t pixels = args.size[0] * args.size[1] * args.size[2];
  args.stride_c = args.channels_last ? 1 : pixels;
  args.stride[2] = args.channels_last ? args.channels : 1;
  args.stride[1] = args.size[2] * args.stride[2];
  args.stride[0] = args.size[1] * args.stride[1];
  args.stride_n = args.channels * pixels;
  args.block = args.channels_last ? between(1, args.channels) : 1;
  const int64_t offset = between(0, 1);
  const Bytes x = between(0, 3) ? Bytes::numbers(args.batch * args.stride_n, args.dtype, offset)
                                : Bytes::random(args.batch * args.stride_n, args.dtype, offset);
  args.input = x.data;
  const int64_t rows = args.out_size[0] * args.out_size[1];
  const int64_t parts = (args.channels + args.block - 1) / args.block;
  run<ResampleArgs>("resample", args, &Level::resample, CUDA_KERNEL(resample),
                    args.batch * parts * rows, args.batch * args.channels * rows * args.out_size[2],
                    offset);
}

void grid_sample_case() {
  GridSampleArgs args{};
  args.dtype = any_dtype();
  args.mode = static_cast<GridMode>(between(0, 2));
  args.padding = static_cast<GridPadding>(between(0, 2));
  args.align_corners = between(0, 1);
  args.is_volume = args.mode != GridMode::kCubic && between(0, 1);
  args.batch = between(1, 2), args.channels = between(1, 5);
  for (int d = 0; d < 3; ++d) {
    const bool is_there = d > 0 || args.is_volume;
    args.size[d] = is_there ? between(1, 9) : 1;
    args.out_size[d] = is_there ? between(1, d == 2 ? 40 : 5) : 1;
  }
  args.stride[2] = 1, args.stride[1] = args.size[2], args.stride[0] = args.size[1] * args.size[2];
  args.stride_c = args.size[0] * args.stride[0], args.stride_n = args.channels * args.stride_c;
  args.grid_stride_axis = 1, args.grid_stride[2] = args.is_volume ? 3 : 2;
  args.grid_stride[1] = args.out_size[2] * args.grid_stride[2];
  args.grid_stride[0] = args.out_size[1] * args.grid_stride[1];
  args.grid_stride_n = args.out_size[0] * args.grid_stride[0];
  const int64_t offset = between(0, 1);
  const Bytes x = Bytes::numbers(args.batch * args.stride_n, args.dtype, offset);
  // Any pattern is a point: infinities, NaN and numbers far outside too.
  const int64_t coordinates = args.batch * args.grid_stride_n;
  const Bytes grid = between(0, 1) ? Bytes::numbers(coordinates, args.dtype, offset)
                                   : Bytes::random(coordinates, args.dtype, offset);
  args.input = x.data, args.grid = grid.data;
  const int64_t rows = args.batch * args.out_size[0] * args.out_size[1];
  run<GridSampleArgs>("grid_sample", args, &Level::grid_sample, CUDA_KERNEL(grid_sample), rows,
                      rows * args.channels * args.out_size[2], offset);
}

// Regions of images, by any of the kernels.
void roi_case(const char* name, void (*Level::*kernel)(const RoiArgs&, int64_t, int64_t),
              void (*cuda)(const RoiArgs&, void*), bool writes_indices) {
  RoiArgs args{};
  args.dtype = any_dtype();
  args.batch = between(1, 2), args.channels = one_of({1, 3, 8, 15, 16, 17, 40, 70});
  args.height = between(1, 9), args.width = between(1, 9), args.rois = between(1, 4);
  args.pooled_h = between(1, 9), args.pooled_w = between(1, 9);
  args.aligned = between(0, 1), args.sampling_ratio = between(0, 3);
  args.scale = static_cast<double>(one_of({1, 4, 10}));
  args.block = one_of({5, 16, 64});
  const int64_t bins = args.pooled_h * args.pooled_w;
  const bool by_position = between(0, 2) == 0;
  const int64_t channels = by_position ? args.channels * bins : args.channels;
  const bool channels_last = between(0, 1);
  const int64_t stride_c = channels_last ? 1 : args.height * args.width;
  args.stride_w = channels_last ? channels : 1, args.stride_h = args.width * args.stride_w;
  args.stride_n = channels * args.height * args.width;
  args.channel_step = by_position ? bins * stride_c : stride_c;
  args.bin_step = by_position ? stride_c : 0;
  args.box_stride = 5, args.box_stride_axis = 1;
  const int64_t offset = between(0, 1);
  const Bytes x = between(0, 3) ? Bytes::numbers(args.batch * args.stride_n, args.dtype, offset)
                                : Bytes::random(args.batch * args.stride_n, args.dtype, offset);
  // Any pattern is a corner, and an index that is then that of no image.
  const Bytes boxes = between(0, 2) ? Bytes::numbers(args.rois * 5, args.dtype, offset)
                                    : Bytes::random(args.rois * 5, args.dtype, offset);
  args.input = x.data, args.boxes = boxes.data;
  const int64_t outputs = args.rois * args.channels * bins;
  const auto size = static_cast<int64_t>(size_of(args.dtype));
  run<RoiArgs>(
      name, args, kernel, cuda, args.rois * ((args.channels + args.block - 1) / args.block),
      writes_indices ? (outputs * 4 + size - 1) / size : outputs, writes_indices ? 0 : offset);
}

void sum_case() {
  // Up to four dimensions in memory order, each kept or reduced.
  ReduceArgs args{};
  args.dtype = any_dtype();
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
  const Bytes x = Bytes::numbers(stride, args.dtype);
  if (args.kept_dims == 0) args.kept_sizes[args.kept_dims++] = 1;
  if (args.reduced_dims == 0) args.reduced_sizes[args.reduced_dims++] = 1;
  args.input = x.data, args.divisor = between(1, 50);
  const int64_t row = args.kept_sizes[args.kept_dims - 1];
  const int64_t blocks = (row + ReduceArgs::kTaskOutputs - 1) / ReduceArgs::kTaskOutputs;
  set_dense_output(args);
  run<ReduceArgs>("sum", args, &Level::sum, CUDA_KERNEL(sum), outputs / row * blocks, outputs,
                  between(0, 1));
}

}  // namespace

void window_cases(int number) {
  seed_case("avg_pool2d", number), pool_case(true);
  seed_case("max_pool2d", number), pool_case(false);
  seed_case("resample", number), resample_case();
  seed_case("grid_sample", number), grid_sample_case();
  const auto roi = [&](const char* name, auto kernel, auto cuda, bool writes_indices) {
    seed_case(name, number), roi_case(name, kernel, cuda, writes_indices);
  };
  roi("roi_align", &Level::roi_align, CUDA_KERNEL(roi_align), false);
  roi("roi_pool", &Level::roi_pool, CUDA_KERNEL(roi_pool), false);
  roi("roi_pool_argmax", &Level::roi_pool_argmax, CUDA_KERNEL(roi_pool_argmax), true);
  roi("ps_roi_pool", &Level::ps_roi_pool, CUDA_KERNEL(ps_roi_pool), false);
  seed_case("sum", number), sum_case();
}
