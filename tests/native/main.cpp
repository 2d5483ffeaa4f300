// Every kernel against a naive double-precision version of its formula, for one instruction set.
#include "check.h"

int main() {
  const std::string isa = ANSM_FAST_ISA_NAME;
  for (const Test& test : tests) {
    const int before = failures;
    test.run();
    if (failures > before)
      std::printf("%s: %d failures in %s\n", isa.c_str(), failures - before, test.name);
  }
  std::printf("%s: %zu tests, %d failures\n", isa.c_str(), tests.size(), failures);
  return failures == 0 && !tests.empty() ? 0 : 1;
}
