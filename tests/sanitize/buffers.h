// Tensors of any storage type, and kernels run on them: each CPU level, and the CUDA kernel under
// emulation, must give the bits of the scalar level, in heap blocks of exactly the bytes they may touch.
#pragma once

#include "cases.h"
#include "dtypes.h"

namespace bninv {

// Elements of any storage type, `offset` elements past the block's own alignment.
struct Bytes {
  std::unique_ptr<unsigned char[]> block;
  size_t size;
  unsigned char* data;

  Bytes(int64_t count, DType dtype, int64_t offset = 0)
      : block(new unsigned char[static_cast<size_t>(count + offset) * size_of(dtype)]),
        size(static_cast<size_t>(count) * size_of(dtype)),
        data(block.get() + static_cast<size_t>(offset) * size_of(dtype)) {
    for (size_t i = 0; i < size; ++i) data[i] = 0xff;
  }

  // Every pattern: NaN, infinities and subnormal numbers are common.
  static Bytes random(int64_t count, DType dtype, int64_t offset = 0) {
    Bytes bytes(count, dtype, offset);
    for (size_t i = 0; i < bytes.size; ++i) bytes.data[i] = static_cast<unsigned char>(engine());
    return bytes;
  }

  // Numbers around 1, so that sums of their products are neither infinite nor NaN.
  static Bytes numbers(int64_t count, DType dtype, int64_t offset = 0) {
    Bytes bytes(count, dtype, offset);
    common::with_type(dtype, [&](auto type) {
      using T = typename decltype(type)::Type;
      for (int64_t i = 0; i < count; ++i) {
        const T value = common::narrow<T>(static_cast<common::Arithmetic<T>>(
            static_cast<double>(between(-100000, 100000)) * 1.1e-5));
        std::memcpy(bytes.data + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
      }
    });
    return bytes;
  }
};

inline void compare(const char* name, const char* level, DType dtype, const Bytes& expected,
                    const Bytes& actual) {
  for (size_t i = 0; i < expected.size; i += size_of(dtype)) {
    if (std::memcmp(expected.data + i, actual.data + i, size_of(dtype)) == 0) continue;
    std::fprintf(stderr, "%s, case %d, dtype %d: element %zu differs at level %s\n", name, cases,
                 static_cast<int>(dtype), i / size_of(dtype), level);
    ++failures;
    return;
  }
}

#if defined(BNINV_EMULATION)
// Every tile and split has its turn: the plan for shapes as small as these is nearly always the same.
// The workspace, too, has exactly the bytes that the plan asks for.
template <auto kPlan, auto kKernel, typename Args>
void launch_planned(const Args& args, void* stream) {
  static int turn = 0;
  Args own = args;
  cuda::set_plan(turn % (cuda::tiles() + 1) - 1, turn % 3);
  ++turn;
  kPlan(own);
  const Bytes workspace(own.plan.workspace_bytes / 2, DType::kHalf);
  own.workspace = workspace.data;
  kKernel(own, stream);
}
#endif

// Tasks [0, tasks) at each level; `cuda` is the launcher of the CUDA kernel, where there is one.
template <typename Args, typename Member>
void run(const char* name, Args args, Member kernel, void (*cuda)(const Args&, void*),
         int64_t tasks, int64_t outputs, int64_t offset) {
  ++cases;
  Bytes expected(0, args.dtype);
  for (const Level& level : levels()) {
    Bytes output(outputs, args.dtype, offset);
    args.output = output.data;
    run_level(level, kernel, args, tasks);
    canonicalize(output.data, output.size, args.dtype);
    record(level.name, name, args.dtype, output.data, output.size);
    if (expected.size == 0)
      expected = std::move(output);
    else
      compare(name, level.name, args.dtype, expected, output);
  }
  if (cuda == nullptr) return;
  Bytes output(outputs, args.dtype, offset);
  args.output = output.data;
  if (outputs > 0) cuda(args, nullptr);  // the operators return before a kernel is chosen
  canonicalize(output.data, output.size, args.dtype);
  record("cuda", name, args.dtype, output.data, output.size);
  compare(name, "cuda", args.dtype, expected, output);
}

inline DType any_dtype() { return static_cast<DType>(between(0, 3)); }

}  // namespace bninv
