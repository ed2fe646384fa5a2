// Stacks to switch between.
#pragma once

#include <csetjmp>
#include <cstddef>

namespace bninv {
namespace emulation {

// A place to come back to: a suspended fiber's, or the host's.
struct Context {
  std::jmp_buf registers;
  // For the address sanitizer, which must be told of every change of stack.
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;
};

// Leaves at `from` and goes on at `to`; returns when something switches to `from`.
void switch_to(Context& from, Context& to);

class Fiber {
 public:
  // Runs `body(this)` on a stack of its own at the first switch to `context`. It never returns.
  explicit Fiber(void (*body)(Fiber*));
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  Context context;
  // Whether `address` is where this stack's overflow ends up.
  bool overflowed_at(const void* address) const;

 private:
  static void enter(unsigned high, unsigned low);
  void (*body_)(Fiber*);
  unsigned char* mapping_;
};

// Notes the calling thread's own stack in `host`, for the sanitizer.
void remember_host(Context& host);

}  // namespace emulation
}  // namespace bninv
