// Threads that wait for work between calls, so that a call does not pay for starting them.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

namespace rstar {

class Team {
 public:
  Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    stopping_.store(true, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

  // Calls work(0) here and work(1) ... work(threads - 1) on other threads, and returns when all have. Where another thread
  // is in here already, calls work(0) only: the work must be such that one thread can do all of it.
  void run(unsigned threads, const std::function<void(unsigned)>& work) {
    bool idle = false;
    if (threads <= 1 || !busy_.compare_exchange_strong(idle, true, std::memory_order_acquire)) return work(0);
    try {
      while (members_.size() + 1 < threads) {
        const unsigned number = static_cast<unsigned>(members_.size()) + 1;
        members_.emplace_back([this, number, seen = round_.load(std::memory_order_relaxed)] { serve(number, seen); });
      }
    } catch (const std::system_error&) {  // no more threads to be had: those there are do it
    }
    work_ = &work;
    wanted_ = threads;
    left_.store(static_cast<unsigned>(members_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    std::exception_ptr error;
    try {
      work(0);
    } catch (...) {  // the others still use what the caller's frame holds
      error = std::current_exception();
    }
    for (unsigned left; (left = left_.load(std::memory_order_acquire)) != 0;) left_.wait(left, std::memory_order_acquire);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
  }

 private:
  void serve(unsigned number, uint32_t seen) {
    while (true) {
      round_.wait(seen, std::memory_order_acquire);
      seen = round_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (number < wanted_) (*work_)(number);
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
    }
  }

  std::vector<std::jthread> members_;  // grown by whoever holds busy_
  std::atomic<bool> busy_{false};
  std::atomic<bool> stopping_{false};
  // Counts calls. A member is woken by the change; the release store publishes work_ and wanted_.
  std::atomic<uint32_t> round_{0};
  std::atomic<unsigned> left_{0};  // members that have not ended this round
  const std::function<void(unsigned)>* work_{nullptr};
  unsigned wanted_{0};
};

}  // namespace rstar
