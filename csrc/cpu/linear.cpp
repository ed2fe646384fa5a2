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
    const auto pack = [&](int64_t i, int64_t k, int64_t length, A* destination) {
      widen_run(static_cast<const T*>(args.input) + i * args.input_stride + k, length, destination);
    };
    const auto store_row = [&](int64_t i, const A* totals) {
      output.store_row(totals, column, columns, i * gemm.columns);
    };
    gemm_block(row, rows, columns, gemm.terms, static_cast<const T*>(args.weight) + column,
               gemm.columns, scratch.data, pack, store_row);
  }
}

}  // namespace

void linear(const LinearArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { linear_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
