// Every access of a kernel, told apart by where it goes: shared memory, announced global memory,
// the thread's own stack, the kernel's parameters and constants, or where it must not go.
#include "report.h"
#include "shared.h"
#include "traffic.h"

namespace simt {
namespace watch {

bool watching = false;

namespace {

// Code of ours that the linker took from an instrumented file must not be watched.
bool busy = false;
struct Busy {
  Busy() { busy = true; }
  ~Busy() { busy = false; }
};

const char* verb(Kind kind) {
  return kind == Kind::kRead ? "load" : kind == Kind::kWrite ? "store" : "atomic";
}

std::string count_text(uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

// "load of 4 bytes by thread (1,0,0) of block (0,0,0) at +0x1234"
std::string access_text(unsigned bytes, Kind kind, uint32_t code) {
  return std::string(verb(kind)) + " of " + count_text(bytes) + " by " + name_of(machine.current) +
         " of " + name_of_block() + " at " + code_text(code);
}

std::string race_text(const Conflict& conflict, Kind kind, const std::string& what, uint32_t code) {
  std::string text = "race on " + what + ": " + name_of(machine.current) + " of " +
                     name_of_block() + (kind == Kind::kRead ? " reads" : " writes") + " at " +
                     code_text(code) + " what " + name_of(conflict.other.thread);
  if (!conflict.same_block) text += " of " + name_of_block_at(conflict.other_position);
  return text + (conflict.other_wrote ? " wrote" : " read") + " at " +
         code_text(conflict.other_code) + ", with nothing that orders them";
}

[[noreturn]] void out_of_range(const std::string& text) {
  find(Finding::kOutOfRange, [&] { return text; });
  machine.fail(text);
}

std::string relative_to(uintptr_t address, uintptr_t begin, uintptr_t end) {
  return address >= end     ? count_text(address - end) + " after the end of"
         : address >= begin ? "across the end of"
                            : count_text(begin - address) + " before the start of";
}

void access_shared(uintptr_t address, unsigned bytes, Kind kind, uint32_t code) {
  SharedArray* array = shared_array_at(address);
  if (!array || address + bytes > uintptr_t(array->begin) + array->bytes) {
    std::string text = "out of range: " + access_text(bytes, kind, code);
    if (const SharedArray* near = array ? array : nearest_shared_array(address)) {
      const uintptr_t begin = uintptr_t(near->begin);
      text += ", " + relative_to(address, begin, begin + near->bytes) + " the shared array " +
              near->site->name;
    }
    out_of_range(text);
  }
  const size_t element = array->site->element;
  if (!array->cells.started()) array->cells.start(array->bytes, element);
  const size_t offset = address - uintptr_t(array->begin);
  const auto what = [&] {
    return "shared array " + std::string(array->site->name) + "[" +
           std::to_string(offset / element) + "]";
  };
  bool uninitialized = false;
  Conflict conflict;
  array->cells.visit(offset, bytes, [&](Cell& cell) {
    forget_other_blocks(cell);
    uninitialized |= kind != Kind::kWrite && !written_in_block(cell);
    const Conflict found = touch(cell, kind, code);
    if (found.found) conflict = found;
  });
  if (conflict.found) find(Finding::kRace, [&] { return race_text(conflict, kind, what(), code); });
  if (uninitialized && !conflict.found)
    find(Finding::kUninitialized,
         [&] { return "uninitialized " + what() + ": " + access_text(bytes, kind, code); });
}

void access_global(Buffer& buffer, uintptr_t address, unsigned bytes, Kind kind, bool aligned,
                   uint32_t code) {
  const bool write = kind != Kind::kRead;
  buffer.mark(address, bytes, write);
  if (!aligned) ++(write ? buffer.written : buffer.read).unaligned;
  count_access(buffer, address, bytes, write, code, machine.current);
  const size_t offset = address - buffer.begin;
  Conflict conflict;
  buffer.cells.visit(offset, bytes, [&](Cell& cell) {
    if (write && !written_in_launch(cell)) buffer.bytes_written += buffer.cells.cell_bytes();
    const Conflict found = touch(cell, kind, code);
    if (found.found) conflict = found;
  });
  if (!conflict.found) return;
  const size_t number = size_t(&buffer - buffers().data());
  find(Finding::kRace, [&] {
    return race_text(
        conflict, kind,
        "buffer " + std::to_string(number) + "[" + std::to_string(offset / buffer.element) + "]",
        code);
  });
}

}  // namespace

void access(uintptr_t address, unsigned bytes, Kind kind, bool aligned, void* code) {
  if (machine.current < 0 || machine.stacks.contains(address) || busy) return;
  const Busy guard;
  const uint32_t offset = code_offset(code);
  if (aligned && (bytes & (bytes - 1)) == 0 && address % bytes != 0) {
    const std::string text = "misaligned " + access_text(bytes, kind, offset) +
                             ": the address is " + std::to_string(address % bytes) + " bytes off";
    find(Finding::kMisaligned, [&] { return text; });
    machine.fail(text);
  }
  if (in_shared(address)) return access_shared(address, bytes, kind, offset);
  if (Buffer* buffer = buffer_of(address, bytes))
    return access_global(*buffer, address, bytes, kind, aligned, offset);
  if (kind == Kind::kRead) {
    const uintptr_t arguments = uintptr_t(machine.launch.arguments);
    if (address - arguments < machine.launch.argument_bytes || in_module(address)) return;
  }
  std::string text = "out of range: " + access_text(bytes, kind, offset);
  const Buffer* near = nearest_buffer(address);
  // Far away from every buffer, the distance says nothing.
  if (near && address - near->end < 1u << 20)
    text += ", " + relative_to(address, near->begin, near->end) + " buffer " +
            std::to_string(near - buffers().data()) + " (" + count_text(near->end - near->begin) +
            ")";
  else
    text += ", memory that no tensor given to the kernel holds";
  out_of_range(text);
}

void atomic(void* address, size_t bytes, void* code) {
  if (!watching) return;
  access(uintptr_t(address), unsigned(bytes), Kind::kAtomic, true, code);
  order::atomic(machine.current, uintptr_t(address));
}

void fence() {
  if (watching) order::fence(machine.current);
}

void warp_synced(int warp, unsigned mask) {
  if (watching) order::warp_synced(warp, mask);
}

void block_synced() {
  if (watching) order::block_synced();
}

void block_begins() {
  if (!watching) return;
  order::block_begins(machine.count);
  traffic_block_begins(machine.count);
}

void block_ends() {
  busy = false;  // also where an access ended the launch
  if (watching) traffic_block_ends();
}

void launch_begins() {
  begin_report();
  if (!watching) return;
  order::launch_begins();
  traffic_launch_begins();
  for (Buffer& buffer : buffers()) buffer.launch_begins();
}

std::string launch_ends(const std::string& error) {
  LaunchReport& report = current_report();
  if (watching)
    for (const Buffer& buffer : buffers())
      report.buffers.push_back({buffer.end - buffer.begin, buffer.element, buffer.read,
                                buffer.written, buffer.bytes_written});
  report.error = error;
  if (error.empty() && !report.texts.empty()) {
    uint64_t findings = 0;
    for (const uint64_t count : report.found) findings += count;
    report.error = report.texts.front();
    if (findings > 1) report.error += " (the first of " + std::to_string(findings) + " findings)";
  }
  return report.error;
}

}  // namespace watch
}  // namespace simt
