// conv2d under R9: what tensor cores give, bit for bit, reproduced with integers and exact products.
//
// A task is a block of output pixels times a block of output channels of one group, as in conv2d.cpp.
// It walks the terms segment by segment: the block's rows are unpacked once a segment, the weights
// once a segment and kTensorLanes channels. A segment's sum of an output among whose operands is an
// infinity or a NaN is computed again by tensor_block.h.
#include "../tensor.h"

#include "epilogue.h"
#include "gemm.h"
#include "tensor_lanes.h"

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
    // Some NaN have low bits alone.
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x3ffffu;
    return (u + ((u & 0x7f800000u) != 0x7f800000u ? 0x1000u : 0)) >> 13;
  }
};

// The operands of one convolution, as patterns by their term.
template <typename T>
struct Operands {
  const Conv2dArgs& args;
  int64_t channels, padded;  // of a group and tap, without and with the terms that are +0 * +0

  // Terms [k, k + length) of output pixel `row`.
  void pack_row(int64_t row, int64_t group, int64_t k, int64_t length, uint32_t* bits) const {
    const int64_t pixels = args.out_height * args.out_width;
    const int64_t n = row / pixels, oh = row % pixels / args.out_width, ow = row % args.out_width;
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n + group * channels;
    int64_t tap = k / padded, c = k % padded;
    for (; length > 0; ++tap, c = 0) {
      const int64_t h = oh * args.step_h - args.pad_h + tap / args.kernel_w * args.dilation_h;
      const int64_t w = ow * args.step_w - args.pad_w + tap % args.kernel_w * args.dilation_w;
      const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
      const int64_t run = min64(padded - c, length);
      const int64_t stored = inside ? max64(0, min64(channels - c, run)) : 0;
      const T* pixel = sample + (inside ? h * args.stride_h + w * args.stride_w + c : 0);
      for (int64_t i = 0; i < stored; ++i) bits[i] = TensorOperand<T>::bits(pixel[i]);
      for (int64_t i = stored; i < run; ++i) bits[i] = 0;
      bits += run, length -= run;
    }
  }

  // Term k of output channels [channel, channel + count), counted over all groups.
  BNINV_INLINE void pack_weights(int64_t channel, int64_t count, int64_t k, uint32_t* bits) const {
    const int64_t tap = k / padded, c = k % padded;
    const T* row = nullptr;
    if (c < channels)
      row = static_cast<const T*>(args.weight) + (tap * channels + c) * args.out_channels + channel;
    const auto pack = [&](int64_t lanes) {
      for (int64_t l = 0; l < lanes; ++l) bits[l] = row ? TensorOperand<T>::bits(row[l]) : 0;
    };
    if (count == kTensorLanes) return pack(kTensorLanes);  // of a known length: by vectors
    pack(count);
  }
};

// A segment's operands, unpacked, and where some are not finite. Terms up to a whole block are zeros.
struct UnpackedRows {
  Scratch<float> significands;
  Scratch<int32_t> exponents;
  Scratch<uint8_t> special;

  explicit UnpackedRows(int64_t rows)
      : significands(rows * kSegment), exponents(rows * kSegment), special(rows) {}

  template <typename Operand>
  bool fill(int64_t row, const uint32_t (&bits)[kSegment]) {
    Ints not_finite{};
    for (int64_t k = 0; k < kSegment; k += kTensorLanes)
      not_finite |=
          unpack_lanes<Operand>(load_lanes<Words>(bits + k), significands.data + row * kSegment + k,
                                exponents.data + row * kSegment + k);
    bool any = false;
    for (int l = 0; l < kTensorLanes; ++l) any = any || not_finite[l] != 0;
    special.data[row] = any;
    return any;
  }
};

struct UnpackedWeights {
  Scratch<float> significands{kSegment * kTensorLanes};
  Scratch<int32_t> exponents{kSegment * kTensorLanes};
  bool special[kTensorLanes];

  template <typename T>
  bool fill(const Operands<T>& operands, int64_t channel, int64_t count, int64_t k, int64_t length,
            int64_t whole) {
    Ints not_finite{};
    for (int64_t i = 0; i < whole; ++i) {
      uint32_t bits[kTensorLanes] = {};
      if (i < length) operands.pack_weights(channel, count, k + i, bits);
      not_finite |= unpack_lanes<typename TensorOperand<T>::Type>(
          load_lanes<Words>(bits), significands.data + i * kTensorLanes,
          exponents.data + i * kTensorLanes);
    }
    bool any = false;
    for (int l = 0; l < kTensorLanes; ++l) any = (special[l] = not_finite[l] != 0) || any;
    return any;
  }
};

// sums[i] = segment sums of kRows rows, from +0.
template <typename Rule, int kRows>
__attribute__((noinline)) void segment_lanes(const float* a, const int32_t* a_exponents,
                                             const UnpackedWeights& weights, int64_t length,
                                             float (*sums)[kTensorLanes]) {
  Floats lanes[kRows];
  for (int i = 0; i < kRows; ++i) lanes[i] = Floats{};
  for (int64_t k = 0; k < length; k += Rule::kTerms)
    block_lanes<Rule, kRows>(a + k, a_exponents + k, weights.significands.data + k * kTensorLanes,
                             weights.exponents.data + k * kTensorLanes, lanes);
  for (int i = 0; i < kRows; ++i) store_lanes(sums[i], lanes[i]);
}

// The same for one output, whatever its operands are.
template <typename T>
float segment_sum(const Operands<T>& operands, const uint32_t* a, int64_t channel, int64_t k,
                  int64_t length, TensorClass rule) {
  using Operand = typename TensorOperand<T>::Type;
  uint32_t b[kSegment], sum = 0;
  for (int64_t i = 0; i < length; ++i) operands.pack_weights(channel, 1, k + i, b + i);
  for (int64_t i = 0; i < length; i += Operand::kGroup)
    sum = tensor_multiply_add<Operand>(
        a + i, b + i, static_cast<int>(min64(length - i, Operand::kGroup)), sum, rule);
  return from_bits(static_cast<int32_t>(sum));
}

// Rows [row, row + rows), channels [channel, channel + count), terms [k, k + length).
struct Segment {
  int64_t row, rows, group, channel, count, k, length;
};

// Adds a segment's sums to the totals of its rows, which are `stride` apart. `special`: some operand is
// not finite.
template <typename Rule, typename T>
void add_segment(const Operands<T>& operands, const Segment& segment, const UnpackedRows& a,
                 const UnpackedWeights& b, bool special, float* totals, int64_t stride) {
  constexpr int kRows = 2;
  const int64_t whole = ceil_div(segment.length, Rule::kTerms) * Rule::kTerms;
  for (int64_t i = 0; i < segment.rows; i += kRows) {
    float sums[kRows][kTensorLanes];
    const int64_t rows = min64(kRows, segment.rows - i);
    const float* significands = a.significands.data + i * kSegment;
    const int32_t* exponents = a.exponents.data + i * kSegment;
    if (rows == kRows)
      segment_lanes<Rule, kRows>(significands, exponents, b, whole, sums);
    else
      segment_lanes<Rule, 1>(significands, exponents, b, whole, sums);
    for (int64_t r = 0; special && r < rows; ++r) {
      uint32_t bits[kSegment];
      operands.pack_row(segment.row + i + r, segment.group, segment.k, segment.length, bits);
      for (int64_t l = 0; l < segment.count; ++l)
        if (a.special.data[i + r] || b.special[l])
          sums[r][l] = segment_sum(operands, bits, segment.channel + l, segment.k, segment.length,
                                   Rule::kClass);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int l = 0; l < kTensorLanes; ++l)
        totals[(i + r) * stride + l] = totals[(i + r) * stride + l] + sums[r][l];
  }
}

template <typename T, bool kIsH>
void conv2d_tensor_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using Operand = typename TensorOperand<T>::Type;
  using Rule = TensorRule<Operand, kIsH>;
  if (begin == end) return;
  const GemmSchedule& gemm = args.gemm;
  const int64_t channels = args.channels / args.groups, terms = tensor_terms(args);
  const Operands<T> operands{args, channels, tensor_channels(args.dtype, channels)};
  const int64_t blocks = gemm.row_blocks * gemm.column_blocks;
  const int64_t pixels = args.out_height * args.out_width;
  const int64_t stride = ceil_div(gemm.block_columns, kTensorLanes) * kTensorLanes;
  UnpackedRows a(gemm.block_rows);
  UnpackedWeights b;
  Scratch<float> totals(gemm.block_rows * stride + 16);
  const ColumnRange range = columns_of_tasks(gemm, begin, end);
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, range.first,
                         range.count);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / blocks, block = task % blocks;
    const int64_t row = block / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = block % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const int64_t channel = group * gemm.columns + column;
    for (int64_t i = 0; i < rows * stride; ++i) totals.data[i] = 0;
    for (int64_t k = 0; k < terms; k += kSegment) {
      const int64_t length = min64(kSegment, terms - k);
      const int64_t whole = ceil_div(length, Rule::kTerms) * Rule::kTerms;
      uint32_t bits[kSegment] = {};
      bool special_rows = false;
      for (int64_t i = 0; i < rows; ++i) {
        operands.pack_row(row + i, group, k, length, bits);
        special_rows = a.fill<Operand>(i, bits) || special_rows;
      }
      for (int64_t j = 0; j < columns; j += kTensorLanes) {
        const Segment segment{row, rows,  group, channel + j, min64(kTensorLanes, columns - j),
                              k,   length};
        const bool special = b.fill(operands, segment.channel, segment.count, k, length, whole);
        add_segment<Rule>(operands, segment, a, b, special || special_rows, totals.data + j,
                          stride);
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t pixel = row + i;
      const int64_t n = pixel / pixels, oh = pixel % pixels / args.out_width;
      output.store_row(totals.data + i * stride, channel, columns,
                       n * args.out_stride_n + oh * args.out_stride_h +
                           pixel % args.out_width * args.out_stride_w);
    }
  }
}

template <typename T>
void conv2d_tensor_in(const Conv2dArgs& args, int64_t begin, int64_t end) {
  if (args.precision == Precision::kTensorA) return conv2d_tensor_of<T, false>(args, begin, end);
  conv2d_tensor_of<T, true>(args, begin, end);
}

}  // namespace

void conv2d_tensor(const Conv2dArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kHalf:
      return conv2d_tensor_in<Half>(args, begin, end);
    case DType::kBFloat16:
      return conv2d_tensor_in<BFloat16>(args, begin, end);
    default:
      return conv2d_tensor_in<float>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
