// The block that is running: its threads, and what each waits for.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "emulation/execution.h"
#include "emulation/runtime_api.h"
#include "fiber.h"

namespace bninv {
namespace emulation {

class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(seed) {}
  // Uniform below `bound` (to within 2^-32); the generator is splitmix64.
  uint32_t below(uint32_t bound) {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<uint32_t>((((z ^ (z >> 31)) >> 32) * bound) >> 32);
  }

 private:
  uint64_t state_;
};

struct AsyncCopy {
  unsigned char* to;
  const unsigned char* from;
  unsigned bytes, group;
  unsigned char seen[16];  // the source when the copy began
  std::source_location where;
};

struct Thread {
  enum State { kNotStarted, kReady, kAtBarrier, kAtWarp, kFinished };

  State state;
  Fiber* fiber;
  uint3 index;

  // What it waits at.
  const char* name;
  std::source_location where;
  unsigned mask;
  uint64_t value;  // what it brings, then what it gets
  int source;      // the lane whose value it gets; negative: the vote of all

  std::vector<AsyncCopy> copies;
  unsigned committed;  // groups of copies
};

class Scheduler {
 public:
  cudaError_t launch(const cudaLaunchConfig_t& config, const Kernel& kernel);

  // Whether the calling host thread is inside of a kernel.
  bool running() const;
  Thread& current() { return threads_[current_]; }
  int lane() const { return current_ % warpSize; }

  int block_barrier(const char* name, bool predicate, std::source_location where);
  uint64_t warp_exchange(const char* name, unsigned mask, uint64_t value, int source,
                         std::source_location where);

  // `what`, then where in the grid and in which order.
  std::string describe(const std::string& what, const std::source_location* where) const;
  // Ends the launch with an error, from a signal handler.
  [[noreturn]] void abandon(const std::string& what, const void* address);

 private:
  void prepare(const cudaLaunchConfig_t& config, const Kernel& kernel);
  void run_grid();
  void run_block();
  void run_thread();
  void dispatch(Context& from);
  void wait(Thread& thread, Thread::State state, const char* name, std::source_location where);
  void make_ready(int thread);
  void make_all_ready();
  bool warp_complete(int first, unsigned mask, const char* name) const;
  [[noreturn]] void report_stall();
  static void fiber_body(Fiber* self);

  Kernel kernel_{};
  uint64_t seed_ = 0, launch_ = 0;
  std::vector<Thread> threads_;
  // Not started, or to be resumed: one is drawn at random, of those ahead while there are any.
  std::vector<int> ready_, ahead_;
  int warp_ahead_ = 0;
  int current_ = 0, finished_ = 0;
  int arrived_ = 0, predicates_ = 0, barrier_result_ = 0;
  Random random_;
  bool in_thread_ = false;  // an error concerns the current thread, not the block

  Context host_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::exception_ptr failure_;
};

Scheduler& scheduler();

// The block's shared memory around its run.
void begin_shared_memory(size_t dynamic_bytes, size_t limit);
void begin_shared_block();
void end_shared_block();
void end_shared_memory();
void check_no_copies(Thread& thread);

// A segmentation fault during this object's life becomes an Error of the launch.
class CatchFaults {
 public:
  CatchFaults();
  ~CatchFaults();
};

}  // namespace emulation
}  // namespace bninv
