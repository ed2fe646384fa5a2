// How a product's outputs are cut into blocks. Free under the contract: no bit depends on it.
#pragma once

#include "../product.h"

namespace bninv {

// Blocks large enough that packing is a small part of the work (a panel once for 16 of AVX-512's tiles)
// and small enough that their rows and totals stay in a core's L2 cache; smaller where that would leave
// threads without work.
inline GemmSchedule gemm_schedule(int64_t rows, int64_t columns, int64_t terms, int64_t groups,
                                  int64_t threads) {
  constexpr int64_t kMaxRows = 224, kMinRows = 12, kMaxColumns = 512, kMinColumns = 64;
  const auto blocks = [](int64_t size, int64_t block) { return (size + block - 1) / block; };
  int64_t block_rows = rows < kMaxRows ? rows : kMaxRows;
  int64_t block_columns = columns < kMaxColumns ? columns : kMaxColumns;
  const auto tasks = [&] {
    return groups * blocks(rows, block_rows) * blocks(columns, block_columns);
  };
  const int64_t wanted = threads > 1 ? 4 * threads : 1;
  while (tasks() < wanted && block_columns > kMinColumns)
    block_columns = blocks(block_columns / 2, kMinColumns) * kMinColumns;
  while (tasks() < wanted && block_rows > kMinRows) block_rows = block_rows / 2;
  if (block_rows < 1) block_rows = 1;
  if (block_columns < 1) block_columns = 1;
  // Even blocks: 100 rows are two blocks of 50, not 96 and 4.
  const int64_t row_blocks = blocks(rows, block_rows);
  const int64_t column_blocks = blocks(columns, block_columns);
  if (row_blocks > 0) block_rows = blocks(rows, row_blocks);
  return {rows, columns, terms, block_rows, block_columns, row_blocks, column_blocks};
}

}  // namespace bninv
