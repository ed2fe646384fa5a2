// conv2d under R9, reproduced in integers: slow, and bit for bit what tensor cores give.
#include "../tensor.h"

#include "../tensor_block.h"
#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T>
struct TensorOperand;
template <>
struct TensorOperand<Half> {
  using Type = HalfOperand;
  static BNINV_INLINE uint32_t bits(Half x) { return x.bits; }
};
template <>
struct TensorOperand<BFloat16> {
  using Type = BFloat16Operand;
  static BNINV_INLINE uint32_t bits(BFloat16 x) { return x.bits; }
};
// Rounded to 10 fraction bits, half away from zero; NaN and infinities stay.
template <>
struct TensorOperand<float> {
  using Type = Tf32Operand;
  static BNINV_INLINE uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    if ((u & 0x7f800000u) != 0x7f800000u) u += 0x1000u;
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    return nan ? 0x3ffffu : u >> 13;
  }
};

// A task is one output pixel.
template <typename T>
void conv2d_tensor_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using Operand = typename TensorOperand<T>::Type;
  const auto bits = [](T x) { return TensorOperand<T>::bits(x); };
  const TensorClass rule = args.precision == Precision::kTensorA ? kTensorA : kTensorH;
  const int64_t channels = args.channels / args.groups, columns = args.out_channels / args.groups;
  const int64_t padded = tensor_channels(args.dtype, channels), terms = tensor_terms(args);
  Scratch<uint32_t> a(terms), b(terms);
  Scratch<float> totals(columns + 16);
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, 0,
                         args.out_channels);
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const int64_t pixels = args.out_height * args.out_width, n = pixel / pixels;
    const int64_t oh = pixel % pixels / args.out_width, ow = pixel % args.out_width;
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n;
    for (int64_t group = 0; group < args.groups; ++group) {
      for (int64_t k = 0; k < terms; ++k) {
        const int64_t tap = k / padded, c = k % padded;
        const int64_t h = oh * args.step_h - args.pad_h + tap / args.kernel_w * args.dilation_h;
        const int64_t w = ow * args.step_w - args.pad_w + tap % args.kernel_w * args.dilation_w;
        const bool inside = c < channels && h >= 0 && h < args.height && w >= 0 && w < args.width;
        a.data[k] =
            inside ? bits(sample[h * args.stride_h + w * args.stride_w + group * channels + c]) : 0;
      }
      for (int64_t o = 0; o < columns; ++o) {
        const T* weight = static_cast<const T*>(args.weight) + group * columns + o;
        for (int64_t k = 0; k < terms; ++k) {
          const int64_t tap = k / padded, c = k % padded;
          b.data[k] = c < channels ? bits(weight[(tap * channels + c) * args.out_channels]) : 0;
        }
        float total = 0;
        for (int64_t k = 0; k < terms; k += kSegment) {
          uint32_t sum = 0;
          for (int64_t j = k; j < terms && j < k + kSegment; j += Operand::kGroup) {
            const int64_t left = terms - j < Operand::kGroup ? terms - j : Operand::kGroup;
            sum = tensor_multiply_add<Operand>(a.data + j, b.data + j, static_cast<int>(left), sum,
                                               rule);
          }
          float segment;
          memcpy(&segment, &sum, sizeof(segment));
          total = total + segment;
        }
        totals.data[o] = total;
      }
      output.store_row(totals.data, group * columns, columns,
                       n * args.out_stride_n + oh * args.out_stride_h + ow * args.out_stride_w);
    }
  }
}

}  // namespace

void conv2d_tensor(const Conv2dArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kHalf:
      return conv2d_tensor_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return conv2d_tensor_of<BFloat16>(args, begin, end);
    default:
      return conv2d_tensor_of<float>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
