// Runs every CPU kernel, at every instruction-set level this machine has, on awkward small shapes.
//
// Built with the address and undefined-behaviour sanitizers (run.py). Each buffer is a heap block of
// exactly the elements the kernel may touch, so a read or write past either end is an error. The
// levels' results are compared as well: their bits must be equal.
#include "cases.h"

using namespace bninv;

int cases = 0, failures = 0;

int main() {
  for (int i = 0; i < 60; ++i) {
    product_cases();
    window_cases();
    elementwise_cases();
  }
  std::string names;
  for (const Level& level : levels()) names += std::string(" ") + level.name;
  std::printf("bninv: sanitizers: %d cases at levels%s, %d with differing bits\n", cases,
              names.c_str(), failures);
  return failures == 0 ? 0 : 1;
}
