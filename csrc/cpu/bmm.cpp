// bmm under R1: each sample is a product of its own; its blocks are tasks like all others'.
#include "../bmm.h"
#include "epilogue.h"
#include "gemm.h"
#include "transpose.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// One sample's rows x terms.
template <typename T>
struct LeftRows {
  using A = Arithmetic<T>;
  const T* data;
  int64_t row_stride, term_stride;

  // Terms [k, k + length) of rows [row, row + rows), where a tile can read them.
  Rows<A> pack(int64_t row, int64_t rows, int64_t k, int64_t length, A* packed) const {
    const T* first = data + row * row_stride + k * term_stride;
    if (term_stride == 1 || length == 1) {
      return dense_rows(first, row_stride, rows, length, packed);
    }
    if (row_stride == 1) {
      transpose(first, term_stride, length, rows, packed, kSegment);
    } else {
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t l = 0; l < length; ++l)
          packed[i * kSegment + l] = widen(first[i * row_stride + l * term_stride]);
    }
    return {packed, kSegment};
  }
};

// One sample's terms x columns whose columns are no neighbours: always packed.
template <typename T>
struct StridedPanel {
  using A = Arithmetic<T>;
  static constexpr bool kInPlace = false;
  const T* data;
  int64_t term_stride, column_stride;

  StridedPanel from(int64_t k, int64_t j) const {
    return {data + k * term_stride + j * column_stride, term_stride, column_stride};
  }
  bool packing_pays(int64_t) const { return true; }
  void pack(int64_t length, int64_t columns, int64_t width, A* packed) const {
    if (term_stride == 1) {
      transpose(data, column_stride, columns, length, packed, width);
      const int64_t filled = ceil_div(columns, Lanes<A>::kCount) * Lanes<A>::kCount;
      for (int64_t k = 0; k < length; ++k)
        for (int64_t j = filled; j < width; ++j) packed[k * width + j] = 0;
      return;
    }
    for (int64_t k = 0; k < length; ++k) {
      const T* row = data + k * term_stride;
      for (int64_t j = 0; j < columns; ++j) packed[k * width + j] = widen(row[j * column_stride]);
      for (int64_t j = columns; j < width; ++j) packed[k * width + j] = 0;
    }
  }
};

template <typename T>
void bmm_of(const BmmArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const GemmSchedule& gemm = args.gemm;
  const MatrixStrides &left = args.input_strides, &right = args.mat2_strides;
  const int64_t blocks = gemm.row_blocks * gemm.column_blocks;
  Scratch<A> scratch(gemm_scratch<T>(gemm));
  const Output<T> output(args.epilogue, nullptr, args.output, 1, 0, 0);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t sample = task / blocks, block = task % blocks;
    const int64_t row = block / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = block % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const LeftRows<T> input{static_cast<const T*>(args.input) + left.of(sample, args.samples),
                            left.row, left.column};
    const T* panel = static_cast<const T*>(args.mat2) + right.of(sample, args.samples);
    const auto pack = [&](int64_t count, int64_t k, int64_t length, A* packed) {
      return input.pack(row, count, k, length, packed);
    };
    const auto store_rows = [&](int64_t i, int64_t count, int64_t j, int64_t width, const A* totals,
                                int64_t stride) {
      output.store_rows(totals, stride, count, column + j, width,
                        (sample * gemm.rows + row + i) * gemm.columns, gemm.columns);
    };
    DirectOutput<A> direct{nullptr, gemm.columns};
    if constexpr (std::is_same_v<T, A>)
      if (args.epilogue.is_empty())
        direct.data =
            static_cast<T*>(args.output) + (sample * gemm.rows + row) * gemm.columns + column;
    const auto multiply = [&](const auto& from) {
      multiply_block<T>(rows, columns, gemm.terms, from, scratch.data, pack, store_rows, direct);
    };
    if (right.column == 1)
      multiply(DensePanel<T>{panel + column, right.row});
    else
      multiply(StridedPanel<T>{panel + column * right.column, right.row, right.column});
  }
}

}  // namespace

void bmm(const BmmArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { bmm_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
