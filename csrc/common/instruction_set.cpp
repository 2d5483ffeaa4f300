#include "common/instruction_set.h"

#include <cstdlib>
#include <cstring>

namespace ansm_fast {
namespace {

InstructionSet supported() {
#if ANSM_FAST_X86_VARIANTS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return InstructionSet::kAvx512;
  if (avx2) return InstructionSet::kAvx2;
#endif
  return InstructionSet::kBaseline;
}

InstructionSet choose() {
  const InstructionSet best = supported();
  const char* asked = std::getenv("ANSM_FAST_CPU_CAPABILITY");
  if (asked == nullptr) return best;
  InstructionSet limit = best;
  if (std::strcmp(asked, "baseline") == 0) limit = InstructionSet::kBaseline;
  if (std::strcmp(asked, "avx2") == 0) limit = InstructionSet::kAvx2;
  return limit < best ? limit : best;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace ansm_fast
