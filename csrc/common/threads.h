// Samples cut into pieces of fixed length: threads share the pieces, and sums that are added up in
// the order of the pieces have the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/tensor.h"

namespace ansm_fast {

// Elements that make a thread worth starting.
constexpr int64_t kGrain = 32768;

inline int64_t grain(int64_t elements_per_item) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements_per_item));
}

// function(begin, end) for parts of [0, count) that make threads worth starting: where one would
// do, at once.
template <class Function>
void in_parallel(int64_t count, int64_t grain, const Function& function) {
  if (count > grain)
    torch::stable::parallel_for(0, count, grain, function);
  else if (count > 0)
    function(int64_t(0), count);
}

struct Piece {
  int64_t sample, begin, end;  // elements of the whole tensor
};

class Pieces {
 public:
  Pieces(int64_t samples, int64_t elements)  // elements of one sample
      : samples_(samples), elements_(elements), each_((elements + kGrain - 1) / kGrain) {}

  int64_t count() const { return samples_ * each_; }
  int64_t elements() const { return elements_; }

  Piece operator[](int64_t index) const {
    const int64_t sample = index / each_, start = index % each_ * kGrain;
    const int64_t origin = sample * elements_;
    return {sample, origin + start, origin + std::min(start + kGrain, elements_)};
  }

  // function(index, piece) for every piece.
  template <class Function>
  void run(const Function& function) const {
    in_parallel(count(), grain(std::min(elements_, kGrain)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) function(i, (*this)[i]);
    });
  }

  // sums[sample] += parts[piece], in the order of the pieces; add(sum, part).
  template <class Sums, class Add>
  std::vector<Sums> per_sample(const std::vector<Sums>& parts, const Add& add) const {
    std::vector<Sums> result(size_t(samples_), Sums{});
    for (int64_t i = 0; i < count(); ++i) add(result[size_t(i / each_)], parts[size_t(i)]);
    return result;
  }

 private:
  int64_t samples_, elements_, each_;
};

}  // namespace ansm_fast
