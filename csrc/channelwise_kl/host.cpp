// Compiled once for each instruction set.
#include "channelwise_kl/host.h"

#include "channelwise_kl/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

using ::ansm_fast::channelwise_kl::Inputs;
using ::ansm_fast::channelwise_kl::Scaling;

void channelwise_kl_rows(const Inputs& in, bool in_double, int64_t begin, int64_t end, double* kl) {
  in_double ? channelwise_kl::rows_chunk<double>(in, begin, end, kl)
            : channelwise_kl::rows_chunk<float>(in, begin, end, kl);
}

void channelwise_kl_columns(const Inputs& in, bool in_double, int64_t begin, int64_t end,
                            double* kl) {
  in_double ? channelwise_kl::columns_chunk<double>(in, begin, end, kl)
            : channelwise_kl::columns_chunk<float>(in, begin, end, kl);
}

int64_t channelwise_kl_column_blocks(const Inputs& in) { return channelwise_kl::column_blocks(in); }

void channelwise_kl_scale_rows(const Scaling& io, bool in_double, int64_t begin, int64_t end) {
  in_double ? channelwise_kl::scale_rows_chunk<double>(io, begin, end)
            : channelwise_kl::scale_rows_chunk<float>(io, begin, end);
}

void channelwise_kl_scale_columns(const Scaling& io, bool in_double, int64_t begin, int64_t end) {
  in_double ? channelwise_kl::scale_columns_chunk<double>(io, begin, end)
            : channelwise_kl::scale_columns_chunk<float>(io, begin, end);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
