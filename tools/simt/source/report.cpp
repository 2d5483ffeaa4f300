#include "report.h"

#include <link.h>

#include <cstdio>

namespace simt {
namespace watch {
namespace {

constexpr size_t kReports = 4096;
std::vector<LaunchReport> reports;

struct Module {
  uintptr_t begin = 0, end = 0;
};

int find_module(dl_phdr_info* info, size_t, void* out) {
  Module found{info->dlpi_addr, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const uintptr_t end = info->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    if (segment.p_type == PT_LOAD && end > found.end) found.end = end;
  }
  if (uintptr_t(&machine) < found.begin || uintptr_t(&machine) >= found.end) return 0;
  *static_cast<Module*>(out) = found;
  return 1;
}

const Module& module() {
  static const Module found = [] {
    Module result;
    dl_iterate_phdr(find_module, &result);
    return result;
  }();
  return found;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result + "\"";
}

std::string json(dim3 size) {
  return "[" + std::to_string(size.x) + "," + std::to_string(size.y) + "," +
         std::to_string(size.z) + "]";
}

std::string json(const Traffic& traffic) {
  char text[256];
  std::snprintf(text, sizeof text,
                "{\"bytes\":%llu,\"sectors\":%llu,\"accesses\":%llu,\"access_sectors\":%llu,"
                "\"ideal_sectors\":%llu,\"unaligned\":%llu}",
                (unsigned long long)traffic.bytes, (unsigned long long)traffic.sectors,
                (unsigned long long)traffic.accesses, (unsigned long long)traffic.access_sectors,
                (unsigned long long)traffic.ideal_sectors, (unsigned long long)traffic.unaligned);
  return text;
}

std::string json(const LaunchReport& report) {
  Traffic read, written;
  std::string buffers;
  for (const BufferReport& buffer : report.buffers) {
    read.add(buffer.read);
    written.add(buffer.written);
    buffers += (buffers.empty() ? "" : ",") + std::string("{\"bytes\":") +
               std::to_string(buffer.bytes) + ",\"element\":" + std::to_string(buffer.element) +
               ",\"bytes_written\":" + std::to_string(buffer.bytes_written) +
               ",\"read\":" + json(buffer.read) + ",\"written\":" + json(buffer.written) + "}";
  }
  std::string texts;
  for (const std::string& text : report.texts) texts += (texts.empty() ? "" : ",") + quoted(text);
  const char* names[kFindings] = {"races", "out_of_range", "uninitialized", "misaligned"};
  std::string found;
  for (int i = 0; i < kFindings; ++i)
    found += ",\"" + std::string(names[i]) + "\":" + std::to_string(report.found[i]);
  return "{\"kernel\":" + quoted(report.kernel) + ",\"instance\":" + quoted(report.instance) +
         ",\"schedule\":" + quoted(report.schedule) + ",\"error\":" + quoted(report.error) +
         ",\"grid\":" + json(report.grid) + ",\"block\":" + json(report.block) +
         ",\"read\":" + json(read) + ",\"written\":" + json(written) + found + ",\"findings\":[" +
         texts + "],\"buffers\":[" + buffers + "]}";
}

}  // namespace

LaunchReport& current_report() { return reports.back(); }

void begin_report() {
  // Nobody reads them where tests only compare results.
  if (reports.size() >= kReports) reports.erase(reports.begin(), reports.begin() + kReports / 2);
  LaunchReport report;
  std::string name = machine.launch.name;
  if (name.size() > 1 && name.front() == '(' && name.back() == ')')
    name = name.substr(1, name.size() - 2);
  report.kernel = name;
  report.instance = code_text(uint32_t(uintptr_t(machine.launch.kernel) - module().begin));
  report.schedule = machine.schedule.text;
  report.grid = machine.launch.grid;
  report.block = machine.launch.block;
  reports.push_back(std::move(report));
}

void clear_reports() { reports.clear(); }

std::string reports_as_json() {
  std::string text;
  for (const LaunchReport& report : reports) text += (text.empty() ? "" : ",\n") + json(report);
  return "[" + text + "]";
}

uint32_t code_offset(const void* code) {
  // A return address is that of the next line, often.
  return uint32_t(uintptr_t(code) - 1 - module().begin);
}

std::string code_text(uint32_t offset) {
  char text[32];
  std::snprintf(text, sizeof text, "+0x%x", offset);
  return text;
}

bool in_module(uintptr_t address) { return address >= module().begin && address < module().end; }

}  // namespace watch
}  // namespace simt
