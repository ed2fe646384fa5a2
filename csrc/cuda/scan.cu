// cumsum, cumprod and logcumsumexp over outer x terms x inner elements, dense in that order (R3). A scan is
// one chain, so a thread does all of it: what runs beside it are other scans.
#include "../dtypes.h"
#include "../scan_steps.h"
#include "device.cuh"
#include "divide.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 32;     // a block's, a thread of the first warp for each
constexpr int kColumns = 32;  // loaded together, neighbours by neighbouring threads

// A column more than is used: threads that go along rows then find them in different banks.
template <typename A>
struct Tile {
  A of_row[kRows][kColumns + 1];
};

// Dense rows. A block owns kRows of them and brings kColumns terms at a time through shared memory, so
// that global memory is read and written in order.
template <typename T, typename Step>
__global__ void __launch_bounds__(kThreads)
    scan_rows(const __grid_constant__ ScanArgs args, const Step step) {
  using A = Arithmetic<T>;
  Tile<A>& tile = static_shared<Tile<A>>();
  const int thread = static_cast<int>(threadIdx.x), column = thread % kColumns;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t left = args.outer - first_row;
  const int rows = left < kRows ? static_cast<int>(left) : kRows;
  const int64_t base = first_row * args.terms;
  A carry = 0;
  for (int64_t first = 0; first < args.terms; first += kColumns) {
    const int64_t rest = args.terms - first;
    const int columns = rest < kColumns ? static_cast<int>(rest) : kColumns;
    const T* x = static_cast<const T*>(args.input) + base + first + column;
    T* y = static_cast<T*>(args.output) + base + first + column;
    // A thread stores the elements it loaded, and loads the next ones over them: no barrier between.
    if (column < columns)
      for (int r = thread / kColumns; r < rows; r += kThreads / kColumns)
        tile.of_row[r][column] = widen(x[r * args.terms]);
    __syncthreads();
    if (thread < rows) {
      A* row = tile.of_row[thread];
      for (int k = 0; k < columns; ++k) {
        carry = first + k == 0 ? step.first(row[k]) : step.next(carry, row[k]);
        row[k] = carry;
      }
    }
    __syncthreads();
    if (column < columns)
      for (int r = thread / kColumns; r < rows; r += kThreads / kColumns)
        y[r * args.terms] = narrow<T>(tile.of_row[r][column]);
  }
}

// Scans side by side, a thread for each: neighbouring threads read neighbouring elements.
template <typename T, typename Step>
__global__ void __launch_bounds__(kThreads)
    scan_columns(const __grid_constant__ ScanArgs args, const Divider inner, const Step step) {
  using A = Arithmetic<T>;
  int64_t outer = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (outer >= args.outer * args.inner) return;
  const int64_t column = inner.divide(outer);
  const int64_t base = outer * args.terms * args.inner + column;
  const T* x = static_cast<const T*>(args.input) + base;
  T* y = static_cast<T*>(args.output) + base;
  A carry = step.first(widen(*x));
  *y = narrow<T>(carry);
  for (int64_t k = 1; k < args.terms; ++k) {
    x += args.inner, y += args.inner;
    carry = step.next(carry, widen(*x));
    *y = narrow<T>(carry);
  }
}

template <typename T, typename Step>
void launch_scan(const ScanArgs& args, const Step& step, void* stream) {
  if (args.inner == 1)
    return launch({"scan", ceil_div(args.outer, kRows), kThreads, 0, stream}, scan_rows<T, Step>,
                  args, step);
  check_divisions("scan", args.outer * args.inner, args.inner);
  launch({"scan", ceil_div(args.outer * args.inner, kThreads), kThreads, 0, stream},
         scan_columns<T, Step>, args, Divider(args.inner), step);
}

}  // namespace

void scan(const ScanArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    with_step(args.scan, [&](const auto& step) { launch_scan<T>(args, step, stream); });
  });
}

}  // namespace cuda
}  // namespace bninv
