// Elementwise functions of two tensors (R6) over dense memory. Tasks are elements.
#include "../binary.h"
#include "vec_binary64.h"
#include "vec_dtypes.h"

#include "../binary_function.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T>
struct Operand {
  using V = typename Lanes<T>::Value;

  Operand(const void* data, int64_t step)
      : elements(static_cast<const T*>(data)), step(step), first(widen(*elements)) {}

  BNINV_INLINE V at(int64_t i) const { return step == 0 ? first : load(elements + i); }
  BNINV_INLINE V at(int64_t i, int64_t count) const {
    return step == 0 ? first : load_partial(elements + i, count);
  }

  const T* elements;
  int64_t step;
  V first;
};

template <typename T>
void binary_of_type(const BinaryArgs& args, int64_t begin, int64_t end) {
  constexpr int kCount = Lanes<T>::kCount;
  const Operand<T> x(args.input, args.input_step), y(args.other, args.other_step);
  T* out = static_cast<T*>(args.output);
  const auto each = [&](const auto& f) {
    int64_t i = begin;
    for (; i + kCount <= end; i += kCount) store(out + i, f(x.at(i), y.at(i)));
    if (i < end) store_partial(out + i, f(x.at(i, end - i), y.at(i, end - i)), end - i);
  };
  using V = typename Lanes<T>::Value;
  switch (args.function) {
#define BNINV_CASE(name, number, ...) \
  case BinaryFunction::number:        \
    return each([](V a, V b) { return binary_of<BinaryFunction::number>(a, b); });
    BNINV_BINARY_FUNCTIONS(BNINV_CASE)
#undef BNINV_CASE
  }
}

}  // namespace

void binary(const BinaryArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return binary_of_type<float>(args, begin, end);
    case DType::kDouble:
      return binary_of_type<double>(args, begin, end);
    case DType::kHalf:
      return binary_of_type<Half>(args, begin, end);
    case DType::kBFloat16:
      return binary_of_type<BFloat16>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
