// Shared memory is one piece for each static object and one of the dynamic size, with a band of
// poison on both sides of each. Under the address sanitizer its own bands do that.
#include "emulation/shared_memory.h"

#include <memory>

#include "launch_limits.h"
#include "report.h"
#include "scheduler.h"

namespace bninv {
namespace emulation {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kBand = 0;
#else
constexpr size_t kBand = 256;
#endif

class Piece {
 public:
  explicit Piece(size_t bytes) : bytes_(bytes), memory_(new unsigned char[kBand + bytes + kBand]) {
    poison(memory_.get(), kBand + bytes_ + kBand);
  }
  unsigned char* data() const { return memory_.get() + kBand; }
  void renew() { poison(data(), bytes_); }
  bool holds(const void* p, size_t bytes) const {
    const auto offset = reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(data());
    return offset < bytes_ && bytes <= bytes_ - offset;
  }
  bool bands_intact() const {
    for (size_t i = 0; i < kBand; ++i)
      if (memory_[i] != kPoison || memory_[kBand + bytes_ + i] != kPoison) return false;
    return true;
  }

 private:
  size_t bytes_;
  std::unique_ptr<unsigned char[]> memory_;
};

std::vector<Piece> pieces;  // the first is the dynamic one
size_t static_bytes, dynamic_bytes, limit;

bool in_shared_memory(const void* p, size_t bytes) {
  for (const Piece& piece : pieces)
    if (piece.holds(p, bytes)) return true;
  return false;
}

}  // namespace

void begin_shared_memory(size_t dynamic, size_t architecture_limit) {
  static_bytes = 0;
  dynamic_bytes = dynamic;
  limit = architecture_limit;
  pieces.clear();
  pieces.emplace_back(dynamic);
}

void end_shared_memory() { pieces.clear(); }

void begin_shared_block() {
  for (Piece& piece : pieces) piece.renew();
}

void end_shared_block() {
  for (const Piece& piece : pieces)
    if (!piece.bands_intact())
      throw Error(scheduler().describe(
          &piece == &pieces[0] ? "the block wrote outside of its dynamic shared memory of " +
                                     std::to_string(dynamic_bytes) + " bytes"
                               : "the block wrote outside of a static shared object",
          nullptr));
}

void* allocate_static_shared(size_t bytes, std::source_location where) {
  static_bytes += (bytes + 15) / 16 * 16;
  if (static_bytes > kPlainSharedBytes)
    fail(std::to_string(static_bytes) + " bytes of static shared memory; the limit is " +
             std::to_string(kPlainSharedBytes),
         where);
  if (static_bytes + dynamic_bytes >
      (dynamic_bytes > kPlainSharedBytes ? limit : kPlainSharedBytes))
    fail(std::to_string(static_bytes) + " bytes of static and " + std::to_string(dynamic_bytes) +
             " of dynamic shared memory are too much together",
         where);
  pieces.emplace_back(bytes);
  return pieces.back().data();
}

void* dynamic_shared() { return pieces[0].data(); }

// ---- Asynchronous copies --------------------------------------------------------------------------

void copy_async(void* shared, const void* global, size_t bytes, bool asynchronous,
                std::source_location where) {
  check_aligned(shared, bytes, "copy_async into shared memory", where);
  check_aligned(global, bytes, "copy_async from global memory", where);
  if (!in_shared_memory(shared, bytes)) fail("copy_async to outside of shared memory", where);
  if (in_shared_memory(global, 1)) fail("copy_async from shared memory", where);
  if (!asynchronous) {
    memcpy(shared, global, bytes);
    return;
  }
  Thread& me = scheduler().current();
  AsyncCopy copy{static_cast<unsigned char*>(shared),
                 static_cast<const unsigned char*>(global),
                 static_cast<unsigned>(bytes),
                 me.committed,
                 {},
                 where};
  memcpy(copy.seen, global, bytes);
  poison(shared, bytes);
  me.copies.push_back(copy);
}

void copy_async_commit() { ++scheduler().current().committed; }

void copy_async_wait(unsigned pending, std::source_location where) {
  Thread& me = scheduler().current();
  size_t done = 0;  // copies are in the order of their groups
  for (; done < me.copies.size(); ++done) {
    const AsyncCopy& copy = me.copies[done];
    if (copy.group + pending >= me.committed) break;
    for (unsigned i = 0; i < copy.bytes; ++i)
      if (copy.to[i] != kPoison)
        fail("the destination of the asynchronous copy of " + place(copy.where) +
                 " was written while it was under way",
             where);
    if (memcmp(copy.seen, copy.from, copy.bytes) != 0)
      fail("the source of the asynchronous copy of " + place(copy.where) +
               " was written while it was under way",
           where);
    memcpy(copy.to, copy.from, copy.bytes);
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

void check_no_copies(Thread& thread) {
  if (!thread.copies.empty())
    fail("the thread ends before a copy_async_wait has covered this copy",
         thread.copies.front().where);
}

}  // namespace emulation
}  // namespace bninv
