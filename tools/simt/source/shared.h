#pragma once

#include <simt/machine.h>

#include <cstdint>
#include <vector>

#include "cell.h"

namespace simt {

struct SharedArray {
  const SharedSite* site;
  char* begin;
  size_t bytes;
  watch::Cells cells;
};

bool in_shared(uintptr_t address);
SharedArray* shared_array_at(uintptr_t address);
// The array before an address outside of all of them, or the first one.
const SharedArray* nearest_shared_array(uintptr_t address);

}  // namespace simt
