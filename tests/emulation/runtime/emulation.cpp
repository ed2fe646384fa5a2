#include "emulation/emulation.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "emulation/execution.h"
#include "emulation/warp.h"
#include "scheduler.h"

namespace bninv {
namespace emulation {

namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : strtoull(text, nullptr, 0);
}

}  // namespace

Settings& settings() {
  static Settings the{
      from_environment("BNINV_EMULATION_SEED", 20240229),
      from_environment("BNINV_EMULATION_LAUNCH", 0),
      static_cast<int>(from_environment("BNINV_EMULATED_ARCH", BNINV_EMULATED_ARCH)),
      static_cast<int>(from_environment("BNINV_EMULATED_MULTIPROCESSORS", 3)),
  };
  return the;
}

void poison(void* memory, size_t bytes) {
  if (bytes != 0) memset(memory, kPoison, bytes);
}

// ---- Guarded buffers ------------------------------------------------------------------------------

namespace {

constexpr size_t kBand = 256;

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// The band behind is only as long as alignment leaves it before the page that cannot be touched: so
// a read too far is found as well.
GuardedBuffer::GuardedBuffer(size_t bytes, size_t alignment)
    : bytes_(bytes), page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
  const size_t room = round_up(bytes, alignment) + alignment;
  mapped_ = round_up(kBand + room, page_);
  void* mapping =
      mmap(nullptr, mapped_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<unsigned char*>(mapping);
  mprotect(mapping_ + mapped_, page_, PROT_NONE);
  data_ = mapping_ + mapped_ - round_up(bytes, alignment);
  if (reinterpret_cast<uintptr_t>(data_) % (2 * alignment) == 0) data_ -= alignment;
  poison(mapping_, mapped_);
}

GuardedBuffer::~GuardedBuffer() { munmap(mapping_, mapped_ + page_); }

void GuardedBuffer::check(const char* name) const {
  const auto clean = [](unsigned char byte) { return byte == kPoison; };
  const unsigned char* end = mapping_ + mapped_;
  const char* side = nullptr;
  if (!std::all_of(data_ + bytes_, const_cast<unsigned char*>(end), clean)) side = " behind ";
  if (!std::all_of(mapping_, data_, clean)) side = " in front of ";
  if (side != nullptr)
    throw Error(std::string("bninv emulation: something was written") + side + name + " of " +
                std::to_string(bytes_) + " bytes");
}

// ---- What kernels call ----------------------------------------------------------------------------

int lane() { return scheduler().lane(); }

int block_barrier(const char* name, bool predicate, std::source_location where) {
  return scheduler().block_barrier(name, predicate, where);
}

unsigned warp_vote(const char* name, unsigned mask, bool predicate, std::source_location where) {
  return static_cast<unsigned>(scheduler().warp_exchange(name, mask, predicate, -1, where));
}

uint64_t warp_shuffle(const char* name, unsigned mask, uint64_t value, int source,
                      std::source_location where) {
  return scheduler().warp_exchange(name, mask, value, source, where);
}

}  // namespace emulation
}  // namespace bninv
