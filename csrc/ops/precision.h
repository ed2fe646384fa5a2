// The argument `precision` of products.
#pragma once

#include "../tensor.h"
#include "common.h"

namespace bninv {

// The class that 'tensor' means on the CPU, for this thread; kIeee: none, an error.
Precision& emulated_class();

// What a schema's word means for a tensor there: 'ieee'; 'tensor', of the GPU that it is on; or, for
// a CPU to reproduce it, one class of tensor cores, 'tensor-A' or 'tensor-H'.
Precision precision_of(const char* op, const std::string& word, const Tensor& input);

}  // namespace bninv
