// Every kernel against a naive double-precision version of its formula, for one instruction set.
#include "check.h"

int main() {
  const std::string isa = ANSM_FAST_ISA_NAME;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == "avx2" && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
    return 77;
  if (isa == "avx512" && !__builtin_cpu_supports("avx512bw")) return 77;
#endif
  test_common();
  test_channelwise_kl();
  test_dual_mask();
  test_perturbation();
  test_image_pack();
  std::printf("%s: %d failures\n", isa.c_str(), failures);
  return failures == 0 ? 0 : 1;
}
