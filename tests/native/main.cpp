// Every kernel against a naive double-precision version of its formula, for one instruction set.
#include "check.h"

// The same conditions as in csrc/common/instruction_set.cpp.
static bool runs_here(const std::string& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == "avx2") return avx2;
  if (isa == "avx512") return avx2 && avx512;
#endif
  return isa == "baseline";
}

int main() {
  const std::string isa = ANSM_FAST_ISA_NAME;
  if (!runs_here(isa)) return 77;
  for (const Test& test : tests) {
    const int before = failures;
    test.run();
    if (failures > before)
      std::printf("%s: %d failures in %s\n", isa.c_str(), failures - before, test.name);
  }
  std::printf("%s: %zu tests, %d failures\n", isa.c_str(), tests.size(), failures);
  return failures == 0 && !tests.empty() ? 0 : 1;
}
