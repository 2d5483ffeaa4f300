// Compiled once for each instruction set.
#include "image_pack/host.h"

#include "image_pack/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

void image_pack_table(ElementType type, void* table) { image_pack::fill_table(type, table); }

void image_pack_run(const ::ansm_fast::image_pack::Pack& io, int64_t begin, int64_t end) {
  image_pack::pack_chunk(io, begin, end);
}

void image_unpack_run(const ::ansm_fast::image_pack::Unpack& io, bool in_double, int64_t begin,
                      int64_t end) {
  in_double ? image_pack::unpack_chunk<double>(io, begin, end)
            : image_pack::unpack_chunk<float>(io, begin, end);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
