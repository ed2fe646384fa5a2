// A kernel that touches memory that is not there: an Error, as it would be one on a GPU.
#undef _FORTIFY_SOURCE  // the checked longjmp refuses to go to another stack

#include <pthread.h>

#include <csignal>
#include <cstdlib>

#include "report.h"
#include "scheduler.h"

namespace bninv {
namespace emulation {

#if defined(__SANITIZE_ADDRESS__)

// The sanitizer says more about it.
CatchFaults::CatchFaults() {}
CatchFaults::~CatchFaults() {}

#else

namespace {

// A stack that overflowed cannot run the handler.
alignas(16) unsigned char handler_stack[64 * 1024];
struct sigaction saved_segmentation, saved_bus;
stack_t saved_stack;
pthread_t launching_thread;

void handle(int number, siginfo_t* info, void*) {
  if (pthread_equal(pthread_self(), launching_thread))
    scheduler().abandon("an access to memory that is not there", info->si_addr);
  // Another thread's: let whoever was in charge see it when it happens again.
  sigaction(number, number == SIGBUS ? &saved_bus : &saved_segmentation, nullptr);
}

}  // namespace

CatchFaults::CatchFaults() {
  launching_thread = pthread_self();
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof(handler_stack);
  sigaltstack(&stack, &saved_stack);
  struct sigaction action{};
  action.sa_sigaction = handle;
  // The handler is left by a jump, so the signal must not stay blocked.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &saved_segmentation);
  sigaction(SIGBUS, &action, &saved_bus);
}

CatchFaults::~CatchFaults() {
  sigaction(SIGSEGV, &saved_segmentation, nullptr);
  sigaction(SIGBUS, &saved_bus, nullptr);
  sigaltstack(&saved_stack, nullptr);
}

#endif

void Scheduler::abandon(const std::string& what, const void* address) {
  if (!in_thread_) std::abort();  // the emulation's own
  std::string text = what + ", " + hexadecimal(reinterpret_cast<uintptr_t>(address));
  for (const auto& fiber : fibers_)
    if (fiber->overflowed_at(address)) text = "a thread's stack overflows";
  failure_ = std::make_exception_ptr(Error(describe(text, nullptr)));
  _longjmp(host_.registers, 1);
}

}  // namespace emulation
}  // namespace bninv
