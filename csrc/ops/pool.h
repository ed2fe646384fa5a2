// What pooling in two dimensions and in three checks alike.
#pragma once

#include "common.h"

namespace bninv {

// The windows along one dimension. PyTorch's rule: with ceil_mode a last window that would start beyond the
// input and its left padding is dropped.
inline int64_t pool_output_size(const char* op, int64_t size, int64_t kernel, int64_t stride,
                                int64_t padding, int64_t dilation, bool ceil_mode) {
  const int64_t padded = size + 2 * padding;
  const int64_t room = padded - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  BNINV_CHECK(room >= 0, op, ": `kernel_size` ", kernel, " with dilation ", dilation,
              " reaches over more than the padded input's ", padded);
  int64_t count = room / stride + 1;
  if (ceil_mode && (count - 1) * stride >= size + padding) --count;
  return count;
}

}  // namespace bninv
