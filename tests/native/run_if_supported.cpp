// Runs a test program that was compiled for one instruction set, where the processor has it:
//
//   run_if_supported baseline|avx2|avx512 PROGRAM
//
// A program of its own, compiled for any processor: one for AVX-512 meets its first unknown
// instruction before its main begins, when its tests register themselves.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "common/instruction_set.h"

int main(int argc, char** argv) {
  using ansm_fast::InstructionSet;
  if (argc != 3) return 2;
  const std::string asked = argv[1];
  const InstructionSet needed = asked == "avx512" ? InstructionSet::kAvx512
                                : asked == "avx2" ? InstructionSet::kAvx2
                                                  : InstructionSet::kBaseline;
  if (ansm_fast::instruction_set() < needed) {
    std::printf("%s: not on this processor\n", argv[1]);
    return 77;
  }
  execl(argv[2], argv[2], static_cast<char*>(nullptr));
  std::perror(argv[2]);
  return 1;
}
