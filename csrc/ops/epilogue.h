// What may follow a product in the same operator: batch_norm, residual, activation.
#pragma once

#include "../product.h"
#include "common.h"

namespace bninv {

// The arguments as a schema hands them over; tensors that an Epilogue points into live here.
struct EpilogueArguments {
  std::optional<Tensor> running_mean, running_var, weight, bias;
  double eps = 0;
  std::optional<Tensor> residual;
  std::string activation = "none";
  double negative_slope = 0;
};

// Checks them for an `output` of that shape, lays the residual out like it, and describes them.
Epilogue epilogue_of(const char* op, EpilogueArguments& arguments, const Tensor& output);

// `tensor` itself if its elements lie where `like`'s do, else a copy that does: one index serves both.
Tensor laid_out_like(const Tensor& like, const Tensor& tensor);

}  // namespace bninv
