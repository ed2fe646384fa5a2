// The words of an error.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>

#include "emulation/vector_types.h"

namespace bninv {
namespace emulation {

std::string coordinates(uint3 index);
std::string hexadecimal(uint64_t value);

// "file:line", the file without its folders.
std::string place(const std::source_location& where);

// As the debugger would call it, or "" if the symbols are stripped.
std::string kernel_name(const void* function);

}  // namespace emulation
}  // namespace bninv
