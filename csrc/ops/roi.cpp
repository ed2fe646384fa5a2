#include "../roi.h"
#include "common.h"

namespace bninv {
namespace {

// Pixels beyond have no binary32 of their own.
constexpr int64_t kMostSize = 1 << 24;
constexpr int64_t kMostSamples = 1 << 16;
constexpr int64_t kBlock = 64;  // channels that a CPU's task keeps in its nearest cache

void check_shapes(const char* op, const Tensor& input, const Tensor& boxes,
                  const std::vector<int64_t>& output_size) {
  BNINV_CHECK(input.dim() == 4, op, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width]");
  for (int64_t d = 2; d < 4; ++d)
    BNINV_CHECK(input.size(d) > 0 && input.size(d) <= kMostSize, op, ": `input` has shape ",
                sizes_text(input), "; its height and width may be 1 to ", kMostSize);
  BNINV_CHECK(boxes.dim() == 2 && boxes.size(1) == 5, op, ": `boxes` has shape ", sizes_text(boxes),
              "; it may be [regions, 5], a row being the image's index, x1, y1, x2 and y2");
  check_pair(op, "output_size", output_size, 1);
}

// Each region's first number is the index of an image. Only a CPU looks: a GPU would have to be waited for.
void check_indices(const char* op, const RoiArgs& args) {
  common::with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    for (int64_t k = 0; k < args.rois; ++k) {
      const auto image = common::widen(static_cast<const T*>(args.boxes)[k * args.box_stride]);
      BNINV_CHECK(image > -1 && image < args.batch, op, ": `boxes` has the index ", image,
                  " in row ", k, "; it may be from 0 to ", args.batch - 1,
                  ", `input` having that many images");
    }
  });
}

// What all four take. `by_position`: each bin has input channels of its own.
RoiArgs arguments(const char* op, const Tensor& input, const Tensor& boxes,
                  const std::vector<int64_t>& output_size, double spatial_scale, bool by_position) {
  RoiArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  check_beside(op, "boxes", boxes, input);
  check_shapes(op, input, boxes, output_size);
  args.pooled_h = output_size[0], args.pooled_w = output_size[1];
  const int64_t bins = args.pooled_h * args.pooled_w;
  args.channels = input.size(1);
  if (by_position) {
    BNINV_CHECK(input.size(1) % bins == 0, op, ": `input` has ", input.size(1),
                " channels; beside `output_size` ", list_text(output_size),
                " it may have a multiple of ", bins);
    args.channels /= bins;
  }
  args.batch = input.size(0), args.height = input.size(2), args.width = input.size(3);
  args.rois = boxes.size(0);
  args.boxes = boxes.data_ptr();
  args.box_stride = boxes.stride(0), args.box_stride_axis = boxes.stride(1);
  args.scale = spatial_scale;
  args.block = kBlock;
  return args;
}

// Of many regions each pixel is read several times: channels next to each other are worth a copy then.
Tensor laid_out(const Tensor& input, const RoiArgs& args, bool by_position, int64_t pixels_of_bin) {
  if (by_position || has_dense_channels(input)) return input;
  const double reads = static_cast<double>(args.rois) * static_cast<double>(args.pooled_h) *
                       static_cast<double>(args.pooled_w) * static_cast<double>(pixels_of_bin);
  const double pixels =
      static_cast<double>(args.batch) * static_cast<double>(args.height * args.width);
  return reads < pixels ? input : torch::stable::contiguous(input, MemoryFormat::ChannelsLast);
}

Tensor pooled(const char* op, Kernel<RoiArgs> kernel, CudaKernel<RoiArgs> cuda_kernel,
              const Tensor& input, RoiArgs& args, Tensor output, bool by_position,
              int64_t pixels_of_bin) {
  if (!on_cuda(input)) check_indices(op, args);
  if (output.numel() == 0) return output;
  const Tensor x = laid_out(input, args, by_position, pixels_of_bin);
  const int64_t bins = args.pooled_h * args.pooled_w;
  args.input = x.data_ptr();
  args.stride_n = x.stride(0), args.stride_h = x.stride(2), args.stride_w = x.stride(3);
  // A single channel's stride may be any number.
  const int64_t stride_c = x.size(1) == 1 ? 1 : x.stride(1);
  args.channel_step = by_position ? bins * stride_c : stride_c;
  args.bin_step = by_position ? stride_c : 0;
  args.output = output.data_ptr();
  if (on_cuda(input)) {
    launch(cuda_kernel, args, x);
    return output;
  }
  const int64_t blocks = (args.channels + kBlock - 1) / kBlock;
  run(kernel, args, args.rois * blocks, grain_of(bins * kBlock * pixels_of_bin));
  return output;
}

std::vector<int64_t> sizes_of(const RoiArgs& args) {
  return {args.rois, args.channels, args.pooled_h, args.pooled_w};
}

Tensor align(const char* op, const Tensor& input, const Tensor& boxes,
             const std::vector<int64_t>& output_size, double spatial_scale, int64_t sampling_ratio,
             bool aligned, bool by_position) {
  RoiArgs args = arguments(op, input, boxes, output_size, spatial_scale, by_position);
  BNINV_CHECK(sampling_ratio <= kMostSamples, op, ": `sampling_ratio` is ", sampling_ratio,
              "; it may be at most ", kMostSamples);
  args.aligned = aligned;
  args.sampling_ratio = sampling_ratio > 0 ? sampling_ratio : 0;
  const int64_t samples = sampling_ratio > 0 ? sampling_ratio : 2;
  return pooled(op, BNINV_KERNEL(roi_align), BNINV_CUDA_KERNEL(roi_align), input, args,
                new_empty(input, sizes_of(args)), by_position, 4 * samples * samples);
}

Tensor roi_align(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                 double spatial_scale, int64_t sampling_ratio, bool aligned) {
  return align("roi_align", input, boxes, output_size, spatial_scale, sampling_ratio, aligned,
               false);
}

Tensor ps_roi_align(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                    double spatial_scale, int64_t sampling_ratio) {
  return align("ps_roi_align", input, boxes, output_size, spatial_scale, sampling_ratio, true,
               true);
}

// Pixels of a bin of whole pixels, about.
constexpr int64_t kPixels = 8;

Tensor roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                double spatial_scale) {
  constexpr const char* kOp = "roi_pool";
  RoiArgs args = arguments(kOp, input, boxes, output_size, spatial_scale, false);
  return pooled(kOp, BNINV_KERNEL(roi_pool), BNINV_CUDA_KERNEL(roi_pool), input, args,
                new_empty(input, sizes_of(args)), false, kPixels);
}

Tensor roi_pool_argmax(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                       double spatial_scale) {
  constexpr const char* kOp = "roi_pool_argmax";
  RoiArgs args = arguments(kOp, input, boxes, output_size, spatial_scale, false);
  BNINV_CHECK(args.height * args.width <= INT32_MAX, kOp, ": `input` has shape ", sizes_text(input),
              "; an image of it may have at most 2^31 - 1 pixels");
  return pooled(kOp, BNINV_KERNEL(roi_pool_argmax), BNINV_CUDA_KERNEL(roi_pool_argmax), input, args,
                new_empty_integers(input, sizes_of(args), 32), false, kPixels);
}

Tensor ps_roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                   double spatial_scale) {
  constexpr const char* kOp = "ps_roi_pool";
  RoiArgs args = arguments(kOp, input, boxes, output_size, spatial_scale, true);
  return pooled(kOp, BNINV_KERNEL(ps_roi_pool), BNINV_CUDA_KERNEL(ps_roi_pool), input, args,
                new_empty(input, sizes_of(args)), true, kPixels);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("ps_roi_align", TORCH_BOX(&ps_roi_align));
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_argmax", TORCH_BOX(&roi_pool_argmax));
  m.impl("ps_roi_pool", TORCH_BOX(&ps_roi_pool));
}

}  // namespace bninv
