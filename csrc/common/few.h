// Values that are mostly few: up to eight of them need no heap, on which tiny calls spend their
// time.
#pragma once

#include <cstddef>
#include <vector>

namespace ansm_fast {

template <class T>
class Few {
 public:
  explicit Few(size_t count) : count_(count), many_(count > kFew ? count : 0) {}

  size_t size() const { return count_; }
  T* data() { return many_.empty() ? few_ : many_.data(); }
  const T* data() const { return many_.empty() ? few_ : many_.data(); }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }

 private:
  static constexpr size_t kFew = 8;
  size_t count_;
  T few_[kFew] = {};
  std::vector<T> many_;
};

}  // namespace ansm_fast
