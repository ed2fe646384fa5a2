// The emulation's controls for Python's ctypes, in every library that build.py links.
#include <exception>
#include <string>

#include "emulation/emulation.h"

#define BNINV_EXPORT extern "C" __attribute__((visibility("default")))

using bninv::emulation::GuardedBuffer;
using bninv::emulation::settings;

// The order of all launches from here on; a negative `launch` leaves their count as it is.
BNINV_EXPORT void bninv_emulation_seed(uint64_t seed, int64_t launch) {
  settings().seed = seed;
  if (launch >= 0) settings().launch = static_cast<uint64_t>(launch);
}
BNINV_EXPORT uint64_t bninv_emulation_launches() { return settings().launch; }

BNINV_EXPORT void bninv_emulation_device(int arch, int multiprocessors) {
  settings().arch = arch;
  settings().multiprocessors = multiprocessors;
}

BNINV_EXPORT void* bninv_emulation_guarded_new(size_t bytes, size_t alignment) {
  return new GuardedBuffer(bytes, alignment);
}
BNINV_EXPORT void* bninv_emulation_guarded_data(const void* buffer) {
  return static_cast<const GuardedBuffer*>(buffer)->data();
}
// Null, or what was written where nothing should have been.
BNINV_EXPORT const char* bninv_emulation_guarded_check(const void* buffer, const char* name) {
  static thread_local std::string message;
  try {
    static_cast<const GuardedBuffer*>(buffer)->check(name);
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}
BNINV_EXPORT void bninv_emulation_guarded_delete(void* buffer) {
  delete static_cast<GuardedBuffer*>(buffer);
}
