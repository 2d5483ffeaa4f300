// Which instruction set the host kernels run with; chosen once, at load.
#pragma once

namespace ansm_fast {

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// The best that this processor and operating system support. ANSM_FAST_CPU_CAPABILITY =
// baseline | avx2 | avx512 lowers it, and is ignored where it asks for more than there is.
InstructionSet instruction_set();

}  // namespace ansm_fast

// Calls `function` of the namespace that was compiled for the chosen instruction set; `function`
// must be declared in ansm_fast::baseline, ::avx2 and ::avx512.
#if ANSM_FAST_X86_VARIANTS
#define ANSM_FAST_HOST(function, ...)                                                           \
  [&] {                                                                                         \
    switch (::ansm_fast::instruction_set()) {                                                   \
      case ::ansm_fast::InstructionSet::kAvx512:                                                \
          return ::ansm_fast::avx512::function(__VA_ARGS__);                                    \
      case ::ansm_fast::InstructionSet::kAvx2: return ::ansm_fast::avx2::function(__VA_ARGS__); \
      default: return ::ansm_fast::baseline::function(__VA_ARGS__);                             \
    }                                                                                           \
  }()
#else
#define ANSM_FAST_HOST(function, ...) ::ansm_fast::baseline::function(__VA_ARGS__)
#endif
