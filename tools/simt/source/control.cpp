// What Python calls through ctypes. A function that fails returns its message, else null.
#include <string>

#include "report.h"

#define SIMT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::string kept;

}  // namespace

SIMT_EXPORT const char* simt_set_schedule(const char* schedule) {
  try {
    simt::set_schedule(schedule);
    return nullptr;
  } catch (const simt::Error& error) {
    kept = error.what();
    return kept.c_str();
  }
}

// Whether this build sees accesses.
SIMT_EXPORT int simt_watching() { return simt::watch::watching; }

SIMT_EXPORT void simt_reset() {
  simt::watch::clear_reports();
  simt::forget();
}

SIMT_EXPORT const char* simt_report() {
  kept = simt::watch::reports_as_json();
  return kept.c_str();
}
