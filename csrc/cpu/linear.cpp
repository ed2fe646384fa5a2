// linear under R1: rows are samples, columns output features, terms input features.
#include "gemm.h"

namespace bninv {
namespace BNINV_LEVEL {

void linear(const LinearArgs& args, int64_t begin, int64_t end) {
  const GemmSchedule& gemm = args.gemm;
  Scratch<float> scratch(gemm_scratch(gemm));
  for (int64_t task = begin; task < end; ++task) {
    const int64_t row = task / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = task % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const float* bias = args.bias == nullptr ? nullptr : args.bias + column;
    const auto pack = [&](int64_t i, int64_t k, int64_t length, float* destination) {
      const float* source = args.input + i * args.input_stride + k;
      for (int64_t j = 0; j < length; ++j) destination[j] = source[j];
    };
    const auto store = [&](int64_t i, const float* totals) {
      store_dense(totals, bias, columns, args.output + i * gemm.columns + column);
    };
    gemm_block(row, rows, columns, gemm.terms, args.weight + column, gemm.columns, scratch.data,
               pack, store);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
