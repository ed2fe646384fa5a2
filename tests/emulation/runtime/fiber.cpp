// The checked longjmp refuses to go to another stack.
#undef _FORTIFY_SOURCE

#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace bninv {
namespace emulation {

namespace {

constexpr size_t kPage = 64 * 1024;  // at least a page everywhere
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// Where a fiber's first entry returns to.
ucontext_t creator;

void before_switch([[maybe_unused]] Context& from, [[maybe_unused]] const Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
}

void after_switch([[maybe_unused]] Context& here, [[maybe_unused]] Context* came_from = nullptr) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(here.fake_stack, &bottom, &size);
  if (came_from != nullptr) {
    came_from->bottom = bottom;
    came_from->size = size;
  }
#endif
}

}  // namespace

// _setjmp and _longjmp leave the signal mask alone: no system call.
__attribute__((noinline)) void switch_to(Context& from, Context& to) {
  before_switch(from, to);
  if (_setjmp(from.registers) == 0) _longjmp(to.registers, 1);
  after_switch(from);
}

Fiber::Fiber(void (*body)(Fiber*)) : body_(body) {
  void* mapping = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<unsigned char*>(mapping);
  mprotect(mapping_, kPage, PROT_NONE);
  context.bottom = mapping_ + kPage;
  context.size = kStackBytes;

  // The stack is entered once, only to note where to go on.
  ucontext_t first;
  getcontext(&first);
  first.uc_stack.ss_sp = mapping_ + kPage;
  first.uc_stack.ss_size = kStackBytes;
  first.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&first, reinterpret_cast<void (*)()>(enter), 2,
              static_cast<unsigned>(uint64_t{self} >> 32), static_cast<unsigned>(self));
  Context here;
  before_switch(here, context);
  swapcontext(&creator, &first);
  after_switch(here);
}

void Fiber::enter(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>(static_cast<uintptr_t>((uint64_t{high} << 32) | low));
  Context came_from;
  after_switch(self->context, &came_from);
  before_switch(self->context, came_from);
  if (_setjmp(self->context.registers) == 0) setcontext(&creator);
  after_switch(self->context);
  self->body_(self);
  __builtin_unreachable();
}

Fiber::~Fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(mapping_ + kPage, kStackBytes);  // another mapping may come here
#endif
  munmap(mapping_, kPage + kStackBytes);
}

bool Fiber::overflowed_at(const void* address) const {
  const auto* p = static_cast<const unsigned char*>(address);
  return p >= mapping_ && p < mapping_ + kPage;
}

void remember_host([[maybe_unused]] Context& host) {
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &host.size);
  pthread_attr_destroy(&attributes);
  host.bottom = bottom;
#endif
}

}  // namespace emulation
}  // namespace bninv
