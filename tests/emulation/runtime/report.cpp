#include "report.h"

#include <cstdio>
#include <map>
#include <utility>

#include "emulation/emulation.h"
#include "scheduler.h"

namespace bninv {
namespace emulation {

std::string coordinates(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

std::string hexadecimal(uint64_t value) {
  char text[19];
  snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string place(const std::source_location& where) {
  const std::string path = where.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string Scheduler::describe(const std::string& what, const std::source_location* where) const {
  std::string text = "bninv emulation: " + what;
  if (where != nullptr) text += "\n  at " + place(*where);
  const std::string name = kernel_name(kernel_.function);
  if (!name.empty()) text += "\n  kernel " + name;
  text += "\n  block " + coordinates(blockIdx);
  if (in_thread_) text += ", thread " + coordinates(threadIdx);
  text += "\n  order of seed " + std::to_string(seed_) + ", launch " + std::to_string(launch_) +
          ": to repeat it, set BNINV_EMULATION_SEED=" + std::to_string(seed_) +
          " and run the same launches, or this one alone with BNINV_EMULATION_LAUNCH=" +
          std::to_string(launch_);
  return text;
}

void Scheduler::report_stall() {
  // One line for each thing waited at, with one thread as an example.
  std::map<std::string, std::pair<int, const Thread*>> groups;
  for (const Thread& thread : threads_) {
    std::string doing;
    switch (thread.state) {
      case Thread::kAtBarrier:
        doing = std::string(" at ") + thread.name + ", " + place(thread.where);
        break;
      case Thread::kAtWarp:
        doing = std::string(" at ") + thread.name + " with mask " + hexadecimal(thread.mask) +
                ", " + place(thread.where);
        break;
      case Thread::kFinished:
        doing = " finished";
        break;
      default:
        doing = " on the way";
    }
    auto& [count, example] = groups[doing];
    if (count++ == 0) example = &thread;
  }
  std::string text = "the threads of a block do not meet:";
  for (const auto& [doing, group] : groups)
    text += "\n    " + std::to_string(group.first) + (group.first == 1 ? " is" : " are") + doing +
            ", such as " + coordinates(group.second->index);
  in_thread_ = false;
  throw Error(describe(text, nullptr));
}

void fail(const std::string& what, std::source_location where) {
  if (scheduler().running()) throw Error(scheduler().describe(what, &where));
  throw Error("bninv emulation: " + what + "\n  at " + place(where));
}

}  // namespace emulation
}  // namespace bninv
