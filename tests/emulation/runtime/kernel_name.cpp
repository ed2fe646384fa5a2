// A kernel's name, template arguments and all, from the symbols of the file it was loaded from: most
// kernels are in anonymous namespaces, which dladdr does not know.
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "report.h"

namespace bninv {
namespace emulation {

namespace {

std::string demangled(const char* symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(symbol, nullptr, nullptr, &status), free);
  return status == 0 ? text.get() : symbol;
}

template <typename T>
T read(const std::vector<char>& file, uint64_t offset) {
  T value{};
  if (offset + sizeof(T) <= file.size()) memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

}  // namespace

std::string kernel_name(const void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0) return "";
  std::ifstream stream(info.dli_fname, std::ios::binary);
  const std::vector<char> file(std::istreambuf_iterator<char>(stream), {});
  const auto header = read<Elf64_Ehdr>(file, 0);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "";
  const auto section = [&](uint64_t i) {
    return read<Elf64_Shdr>(file, header.e_shoff + i * header.e_shentsize);
  };
  // Position-independent files only: addresses in them count from where they were loaded.
  const uint64_t address =
      reinterpret_cast<uintptr_t>(function) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  for (uint64_t s = 0; s < header.e_shnum; ++s) {
    const Elf64_Shdr table = section(s);
    if (table.sh_type != SHT_SYMTAB) continue;
    const uint64_t names = section(table.sh_link).sh_offset;
    for (uint64_t at = 0; at < table.sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = read<Elf64_Sym>(file, table.sh_offset + at);
      if (symbol.st_value == address && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC &&
          names + symbol.st_name < file.size())
        return demangled(file.data() + names + symbol.st_name);
    }
  }
  return "";
}

}  // namespace emulation
}  // namespace bninv
