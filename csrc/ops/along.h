// The host side of operators along one dimension.
#pragma once

#include "../along.h"
#include "common.h"

namespace bninv {

struct Along {
  Tensor input, output;  // contiguous, the result as stock's
};

// Checks an operator's input and dimension, and fills in all that AlongArgs has.
inline Along prepare_along(const char* op, const Tensor& input, int64_t dim, AlongArgs& args) {
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  const int64_t dims = input.dim() > 0 ? input.dim() : 1;
  BNINV_CHECK(dim >= -dims && dim < dims, op, ": `dim` is ", dim, "; it may be from ", -dims,
              " to ", dims - 1);
  if (dim < 0) dim += dims;
  const Tensor x = input.is_contiguous() ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  if (output.numel() > 0) args.input = x.data_ptr(), args.output = output.data_ptr();
  args.outer = args.terms = args.inner = 1;
  for (int64_t d = 0; d < x.dim(); ++d)
    (d < dim ? args.outer : d == dim ? args.terms : args.inner) *= x.size(d);
  return {x, output};
}

}  // namespace bninv
