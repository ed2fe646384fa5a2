#include "capability.h"

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "common.h"

namespace bninv {
namespace {

struct Level {
  std::string_view name;
  Capability capability;
};

// Levels of this build that this machine can run, the best one last.
const std::vector<Level>& levels() {
  static const std::vector<Level> found = [] {
    std::vector<Level> list{{"scalar", Capability::kScalar}};
#if defined(BNINV_HAVE_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      list.push_back({"avx2", Capability::kAvx2});
#endif
#if defined(BNINV_HAVE_AVX512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      list.push_back({"avx512", Capability::kAvx512});
#endif
#if defined(BNINV_HAVE_NEON)
    list.push_back({"neon", Capability::kNeon});  // part of every aarch64
#endif
    return list;
  }();
  return found;
}

std::string level_names(const char* separator) {
  std::string names;
  for (const Level& level : levels())
    names += (names.empty() ? "" : separator) + std::string(level.name);
  return names;
}

Capability level_named(const std::string& name, const char* source) {
  for (const Level& level : levels())
    if (level.name == name) return level.capability;
  throw std::runtime_error(text("bninv: ", source, " is '", name,
                                "'; on this machine it may be one of: ", level_names(", ")));
}

std::atomic<Capability>& current() {
  static std::atomic<Capability> value{[] {
    const char* name = std::getenv("BNINV_CPU_CAPABILITY");
    return name == nullptr || *name == '\0' ? levels().back().capability
                                            : level_named(name, "BNINV_CPU_CAPABILITY");
  }()};
  return value;
}

std::string cpu_capability() {
  const Capability now = capability();
  for (const Level& level : levels())
    if (level.capability == now) return std::string(level.name);
  return "";
}

std::string cpu_capabilities() { return level_names(","); }

// For tests: bninv.testing.cpu_capability() restores the former level.
void set_cpu_capability(std::string name) { current() = level_named(name, "the capability"); }

}  // namespace

Capability capability() { return current().load(std::memory_order_relaxed); }

int64_t vector_width() {
  switch (capability()) {
    case Capability::kScalar:
      return 1;
    case Capability::kAvx2:
    case Capability::kNeon:
      return 8;
    case Capability::kAvx512:
      return 16;
  }
  return 1;
}

STABLE_TORCH_LIBRARY_IMPL(bninv, CompositeExplicitAutograd, m) {
  m.impl("_cpu_capability", TORCH_BOX(&cpu_capability));
  m.impl("_cpu_capabilities", TORCH_BOX(&cpu_capabilities));
  m.impl("_set_cpu_capability", TORCH_BOX(&set_cpu_capability));
}

}  // namespace bninv
