#include <algorithm>
#include <cstdlib>

#include "machine.h"

namespace simt {

Schedule parse_schedule(const std::string& text) {
  Schedule schedule;
  schedule.text = text;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    if (part == "lifo") {
      schedule.order = Order::kLastFirst;
    } else if (part == "rev") {
      schedule.order = Order::kFirstFirst;
    } else if (part == "fifo") {
      schedule.order = Order::kLockStep;
    } else if (part == "random" || part.rfind("random:", 0) == 0) {
      schedule.order = Order::kRandom;
      schedule.seed = part.size() > 7 ? unsigned(std::atoll(part.c_str() + 7)) : 0;
    } else if (part == "ascending" || part == "descending") {
      schedule.descending = part == "descending";
    } else if (part.rfind("ends:", 0) == 0) {
      schedule.ends = uint64_t(std::atoll(part.c_str() + 5));
    } else {
      throw Error("simt: no schedule is called '" + part +
                  "'; lifo, rev, fifo, random:SEED, ascending, descending and ends:COUNT are");
    }
  }
  return schedule;
}

void Ready::start(const Schedule& schedule) {
  order_ = schedule.order;
  random_.seed(schedule.seed);
}

void Ready::clear() {
  threads_.clear();
  first_ = settled_ = 0;
}

void Ready::added() {
  if (order_ == Order::kFirstFirst)
    std::reverse(threads_.begin() + ptrdiff_t(settled_), threads_.end());
  settled_ = threads_.size();
}

int Ready::take() {
  int thread;
  if (order_ == Order::kLockStep) {
    thread = threads_[first_++];
    if (first_ == threads_.size()) clear();
    return thread;
  }
  if (order_ == Order::kRandom) std::swap(threads_[random_() % threads_.size()], threads_.back());
  thread = threads_.back();
  threads_.pop_back();
  settled_ = threads_.size();
  return thread;
}

}  // namespace simt
