// Declares host entry points once for each instruction set they are compiled for.
#pragma once

#define ANSM_FAST_FOR_EACH_ISA(DECLARATIONS) \
  namespace ansm_fast {                      \
  namespace baseline {                       \
  DECLARATIONS                               \
  }                                          \
  namespace avx2 {                           \
  DECLARATIONS                               \
  }                                          \
  namespace avx512 {                         \
  DECLARATIONS                               \
  }                                          \
  }
