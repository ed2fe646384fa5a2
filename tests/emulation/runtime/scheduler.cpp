// Runs a grid: one block after another, and in a block one thread at a time, until it waits.
//
// Whatever may run next is drawn at random. A thread that has not started runs on the stack of the
// one that just ended, so a kernel that never waits needs one stack and no switch.
#include "scheduler.h"

#include <bit>
#include <cfenv>
#include <cstring>
#include <mutex>
#include <numeric>

#include "emulation/shared_memory.h"
#include "emulation/warp.h"
#include "launch_limits.h"
#include "report.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace bninv {
namespace emulation {

uint64_t current_launch = 0;

namespace {

thread_local bool inside_launch = false;

// A kernel's arithmetic does not depend on the host's rounding or flush-to-zero.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() {
    fegetenv(&saved_);
    fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatingPoint() { fesetenv(&saved_); }

 private:
  fenv_t saved_;
};

struct InsideLaunch {
  InsideLaunch() { inside_launch = true; }
  ~InsideLaunch() { inside_launch = false; }
};

}  // namespace

Scheduler& scheduler() {
  static Scheduler the;
  return the;
}

bool Scheduler::running() const { return inside_launch; }

// ---- Launch ---------------------------------------------------------------------------------------

cudaError_t Scheduler::launch(const cudaLaunchConfig_t& config, const Kernel& kernel) {
  if (inside_launch) fail("a kernel launches a kernel, which is not emulated");
  if (const cudaError_t error = check_launch(config, kernel.function)) return error;
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const DefaultFloatingPoint floating_point;
  const InsideLaunch inside;
  prepare(config, kernel);
  try {
    const CatchFaults faults;
    run_grid();
  } catch (...) {
    // Stacks of threads that will not go on.
    idle_.clear();
    fibers_.clear();
    end_shared_memory();
    throw;
  }
  end_shared_memory();
  return cudaSuccess;
}

void Scheduler::prepare(const cudaLaunchConfig_t& config, const Kernel& kernel) {
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  kernel_ = kernel;
  seed_ = settings().seed;
  launch_ = settings().launch++;
  ++current_launch;
  random_ = Random(seed_ ^ (launch_ * 0xd1342543de82ef95));
  failure_ = nullptr;
  remember_host(host_);
  threads_.resize(blockDim.x * blockDim.y * blockDim.z);
  uint3 index{0, 0, 0};
  for (Thread& thread : threads_) {
    thread.index = index;
    thread.copies.clear();
    if (++index.x == blockDim.x) {
      index.x = 0;
      if (++index.y == blockDim.y) index.y = 0, ++index.z;
    }
  }
  begin_shared_memory(config.dynamicSmemBytes, shared_limit(settings().arch));
}

void Scheduler::run_grid() {
  const uint64_t count = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  if (count > kMaxEmulatedBlocks)
    throw Error("bninv emulation: " + std::to_string(count) + " blocks would take for ever");
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  for (uint32_t left = static_cast<uint32_t>(count); left > 0; --left) {
    std::swap(order[random_.below(left)], order[left - 1]);
    const uint32_t block = order[left - 1];
    blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
    run_block();
  }
}

void Scheduler::run_block() {
  ready_.clear();
  ahead_.clear();
  for (Thread& thread : threads_) {
    thread.fiber = nullptr;
    thread.committed = 0;
  }
  make_all_ready();
  for (Thread& thread : threads_) thread.state = Thread::kNotStarted;
  finished_ = arrived_ = predicates_ = 0;
  begin_shared_block();
  dispatch(host_);  // comes back when nothing can go on
  in_thread_ = false;
  if (failure_) std::rethrow_exception(failure_);
  if (finished_ != static_cast<int>(threads_.size())) report_stall();
  end_shared_block();
}

// ---- Threads --------------------------------------------------------------------------------------

// Goes on with a thread drawn at random, leaving this stack at `from`.
void Scheduler::dispatch(Context& from) {
  std::vector<int>& ready = ahead_.empty() ? ready_ : ahead_;
  if (ready.empty() || failure_) return switch_to(from, host_);
  const uint32_t drawn = random_.below(static_cast<uint32_t>(ready.size()));
  current_ = ready[drawn];
  ready[drawn] = ready.back();
  ready.pop_back();
  Thread& thread = threads_[current_];
  threadIdx = thread.index;
  in_thread_ = true;
  if (thread.fiber == nullptr) {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(fiber_body));
      idle_.push_back(fibers_.back().get());
    }
    thread.fiber = idle_.back();
    idle_.pop_back();
  }
  if (&thread.fiber->context != &from) switch_to(from, thread.fiber->context);
}

void Scheduler::fiber_body(Fiber* self) {
  Scheduler& the = scheduler();
  for (;;) {
    the.run_thread();
    the.idle_.push_back(self);
    the.dispatch(self->context);
  }
}

void Scheduler::run_thread() {
  threads_[current_].state = Thread::kReady;
  try {
    kernel_.call(kernel_.arguments);
    check_no_copies(threads_[current_]);
  } catch (...) {
    failure_ = std::current_exception();
  }
  threads_[current_].state = Thread::kFinished;
  ++finished_;
}

void Scheduler::wait(Thread& thread, Thread::State state, const char* name,
                     std::source_location where) {
  thread.state = state;
  thread.name = name;
  thread.where = where;
}

void Scheduler::make_ready(int thread) {
  threads_[thread].state = Thread::kReady;
  (thread / warpSize == warp_ahead_ ? ahead_ : ready_).push_back(thread);
}

// At the start of a block and after each of its barriers. Every other time one warp runs as far as it
// can before any other: where all take turns, a warp never gets past its shuffles while a thread of
// another has not yet read what lay in shared memory.
void Scheduler::make_all_ready() {
  const int count = static_cast<int>(threads_.size()), warps = (count + warpSize - 1) / warpSize;
  warp_ahead_ = static_cast<int>(random_.below(static_cast<uint32_t>(2 * warps)));
  for (int i = 0; i < count; ++i) make_ready(i);
}

// ---- Barriers and warps ---------------------------------------------------------------------------

int Scheduler::block_barrier(const char* name, bool predicate, std::source_location where) {
  Thread& me = current();
  wait(me, Thread::kAtBarrier, name, where);
  predicates_ += predicate;
  if (++arrived_ == static_cast<int>(threads_.size())) {
    for (const Thread& other : threads_)
      if (other.where.line() != where.line() || other.where.column() != where.column() ||
          strcmp(other.where.file_name(), where.file_name()) != 0)
        report_stall();
    // Nobody can finish another barrier before all have read this result.
    barrier_result_ = predicates_;
    arrived_ = predicates_ = 0;
    make_all_ready();
  }
  dispatch(me.fiber->context);
  return barrier_result_;
}

bool Scheduler::warp_complete(int first, unsigned mask, const char* name) const {
  for (unsigned left = mask; left != 0; left &= left - 1) {
    const size_t i = static_cast<size_t>(first + std::countr_zero(left));
    if (i >= threads_.size()) return false;
    const Thread& other = threads_[i];
    // A lane may first have to meet others under another mask.
    if (other.state != Thread::kAtWarp || other.mask != mask || strcmp(other.name, name) != 0)
      return false;
  }
  return true;
}

uint64_t Scheduler::warp_exchange(const char* name, unsigned mask, uint64_t value, int source,
                                  std::source_location where) {
  if ((mask >> lane() & 1) == 0)
    fail(std::string(name) + ": lane " + std::to_string(lane()) + " is not in its own mask " +
             hexadecimal(mask),
         where);
  Thread& me = current();
  wait(me, Thread::kAtWarp, name, where);
  me.mask = mask;
  me.value = value;
  me.source = source;
  const int first = current_ - lane();
  if (warp_complete(first, mask, name)) {
    uint64_t values[warpSize], vote = 0;
    for (unsigned left = mask; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      values[i] = threads_[first + i].value;
      vote |= (values[i] & 1) << i;
    }
    for (unsigned left = mask; left != 0; left &= left - 1) {
      Thread& other = threads_[first + std::countr_zero(left)];
      if (other.source < 0)
        other.value = vote;
      else
        other.value = mask >> other.source & 1 ? values[other.source] : ~uint64_t{0};
      make_ready(first + std::countr_zero(left));
    }
  }
  dispatch(me.fiber->context);
  return me.value;
}

}  // namespace emulation
}  // namespace bninv
