// What a host program says to the emulation, and hears from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>

namespace bninv {
namespace emulation {

// A fault of a kernel: thrown from the launch, on the host's own stack. What a GPU's runtime would
// refuse comes back as its error code instead.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Settings {
  uint64_t seed;        // BNINV_EMULATION_SEED: of the order of blocks and threads
  uint64_t launch;      // BNINV_EMULATION_LAUNCH: the next launch's number, mixed into the seed
  int arch;             // BNINV_EMULATED_ARCH, as __CUDA_ARCH__: limits of shared memory
  int multiprocessors;  // BNINV_EMULATED_MULTIPROCESSORS: few, so that grid-stride loops go round
};

// Read from the environment at the first use; may be changed between launches.
Settings& settings();

// Bytes of 0xff: every float format reads NaN, integers -1.
void poison(void* memory, size_t bytes);
constexpr unsigned char kPoison = 0xff;

// Poisoned memory for a kernel's operand, with a band of poison on both sides and, after the one
// behind, a page that cannot be touched. The buffer starts at a multiple of `alignment` (a power of
// two) and of nothing larger.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes, size_t alignment = 16);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* data() const { return data_; }
  // Throws Error if something was written outside of the buffer since it was made.
  void check(const char* name) const;

 private:
  unsigned char* mapping_;
  unsigned char* data_;
  size_t bytes_, mapped_, page_;
};

// Throws an Error. Inside a kernel the message goes on to say which block and thread, and how to see
// it again.
[[noreturn]] void fail(const std::string& what,
                       std::source_location where = std::source_location::current());

}  // namespace emulation
}  // namespace bninv
