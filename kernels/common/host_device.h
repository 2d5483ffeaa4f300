// Marks formulas that host and device share; nothing to the host's compilers.
#pragma once

#ifdef __CUDACC__
#define ANSM_FAST_HOST_DEVICE __host__ __device__
#else
#define ANSM_FAST_HOST_DEVICE
#endif
