// linear under R1: rows are samples, columns output features, terms input features.
#include "../linear.h"
#include "epilogue.h"
#include "gemm.h"

namespace bninv {
namespace BNINV_LEVEL {

namespace {

template <typename T>
void linear_of(const LinearArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const GemmSchedule& gemm = args.gemm;
  Scratch<A> scratch(gemm_scratch<T>(gemm));
  const ColumnRange range = columns_of_tasks(gemm, begin, end);
  const Output<T> output(args.epilogue, args.bias, args.output, 1, range.first, range.count);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t row = task / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = task % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const T* input = static_cast<const T*>(args.input) + row * args.input_stride;
    const auto pack_rows = [&](int64_t count, int64_t k, int64_t length, A* packed) {
      return dense_rows(input + k, args.input_stride, count, length, packed);
    };
    const auto store_rows = [&](int64_t i, int64_t count, int64_t j, int64_t width, const A* totals,
                                int64_t stride) {
      output.store_rows(totals, stride, count, column + j, width, (row + i) * gemm.columns,
                        gemm.columns);
    };
    const DensePanel<T> panel{static_cast<const T*>(args.weight) + column, gemm.columns};
    multiply_block<T>(rows, columns, gemm.terms, panel, scratch.data, pack_rows, store_rows);
  }
}

}  // namespace

void linear(const LinearArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { linear_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
