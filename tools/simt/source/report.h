// What Python reads of the launches so far.
#pragma once

#include <string>
#include <vector>

#include "buffers.h"
#include "machine.h"

namespace simt {
namespace watch {

enum class Finding { kRace, kOutOfRange, kUninitialized, kMisaligned };
constexpr int kFindings = 4;

struct BufferReport {
  size_t bytes, element;
  Traffic read, written;
  uint64_t bytes_written;
};

struct LaunchReport {
  std::string kernel, instance, schedule, error;  // the instance as an offset of its code
  dim3 grid, block;
  std::vector<BufferReport> buffers;
  uint64_t found[kFindings] = {};
  std::vector<std::string> texts;
};

// Of the running launch, or the last one.
LaunchReport& current_report();
void begin_report();
void clear_reports();
// Counts it; the first few of each kind have a text, from a function that makes it.
template <class Text>
void find(Finding finding, Text text) {
  constexpr uint64_t kTexts = 3;
  LaunchReport& report = current_report();
  if (++report.found[int(finding)] <= kTexts) report.texts.push_back(text());
}
std::string reports_as_json();

// A place in the library's code as an offset, which `addr2line` takes.
uint32_t code_offset(const void* code);
std::string code_text(uint32_t offset);
// Whether the address lies in the library that the harness is linked into.
bool in_module(uintptr_t address);

}  // namespace watch
}  // namespace simt
