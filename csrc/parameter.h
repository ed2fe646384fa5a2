// A layer's parameters as kernels read them.
#pragma once

#include "dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// Value i of a parameter of an operator over T, or `missing` where the layer has none.
template <typename T>
BNINV_INLINE Arithmetic<T> parameter_at(const Parameter& parameter, Arithmetic<T> missing,
                                        int64_t i) {
  return parameter.data != nullptr ? element<T>(parameter.data, parameter.dtype, i) : missing;
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
