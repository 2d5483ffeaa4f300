// Compiled once for each instruction set. `wide` accumulates in double.
#include "channelwise_kl_host.h"

#include "channelwise_kl/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

void channelwise_kl_rows(const ::ansm_fast::channelwise_kl::Inputs& in, bool wide, int64_t begin,
                         int64_t end, double* kl) {
  wide ? channelwise_kl::rows_chunk<double>(in, begin, end, kl)
       : channelwise_kl::rows_chunk<float>(in, begin, end, kl);
}

void channelwise_kl_columns(const ::ansm_fast::channelwise_kl::Inputs& in, bool wide, int64_t begin,
                            int64_t end, double* kl) {
  wide ? channelwise_kl::columns_chunk<double>(in, begin, end, kl)
       : channelwise_kl::columns_chunk<float>(in, begin, end, kl);
}

int64_t channelwise_kl_column_blocks(const ::ansm_fast::channelwise_kl::Inputs& in) {
  return channelwise_kl::column_blocks(in);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
