// R3's scans over outer x terms x inner elements, dense in that order.
#include "../scan_steps.h"
#include "rows.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Dense rows: a task is one of them, one chain of steps.
template <typename T, typename Step>
void dense_rows(const ScanArgs& args, const Step& step, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.input) + row * args.terms;
    T* y = static_cast<T*>(args.output) + row * args.terms;
    A carry = step.first(widen(x[0]));
    y[0] = narrow<T>(carry);
    for (int64_t k = 1; k < args.terms; ++k) {
      carry = step.next(carry, A(widen(x[k])));
      y[k] = narrow<T>(carry);
    }
  }
}

// Chains side by side, a vector of them at a time: a task is kTaskInner neighbours of one outer index.
template <typename T, typename Step>
void side_by_side(const ScanArgs& args, const Step& step, int64_t begin, int64_t end) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t terms = args.terms, inner = args.inner;
  const int64_t blocks = ceil_div(inner, AlongArgs::kTaskInner);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t offset = task / blocks * terms * inner;
    const int64_t first = task % blocks * AlongArgs::kTaskInner;
    const int64_t last = min64(first + AlongArgs::kTaskInner, inner);
    for (int64_t i = first; i < last; i += kCount) {
      const T* x = static_cast<const T*>(args.input) + offset + i;
      T* y = static_cast<T*>(args.output) + offset + i;
      const int64_t count = min64(kCount, last - i);
      V carry(0.0f);
      for (int64_t k = 0; k < terms; ++k, x += inner, y += inner) {
        const V value = count == kCount ? load(x) : load_partial(x, count);
        carry = k == 0 ? step.first(value) : step.next(carry, value);
        if (count == kCount)
          store(y, carry);
        else
          store_partial(y, carry, count);
      }
    }
  }
}

}  // namespace

void scan(const ScanArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    with_step(args.scan, [&](const auto& step) {
      if (args.inner == 1)
        dense_rows<T>(args, step, begin, end);
      else
        side_by_side<T>(args, step, begin, end);
    });
  });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
