// Random windows over an image, for convolutions and for pooling.
#pragma once

#include "cases.h"

namespace bninv {

// Sizes and strides of a convolution whose windows fit; the output in NHWC or NCHW order.
inline Conv2dArgs conv_geometry() {
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

}  // namespace bninv
