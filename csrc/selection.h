// Which child a rollout enters: pure functions over a block of siblings.
//
//   UCT(s) = Q(s) + c * sqrt(ln N(parent) / N(s)),   Q(s) = q(s) / N(s)      (rStar-Math, section 3.2)
//
// An unvisited child has no exploration term, and Q = the first-play urgency. A rollout in flight counts as a visit with
// the value -virtual_loss, at the child and, except for the rollout that is choosing, at the parent; so with one rollout
// in flight the formula above holds exactly. Ties go to the first child.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "node.h"

namespace rstar {

// ln(n) for small n, precomputed: selection needs one per step. Given from outside when it must agree with another
// library's logarithm to the last bit; beyond its end std::log serves.
class LogTable {
 public:
  LogTable() : LogTable(shared()) {}
  explicit LogTable(std::vector<double> table) : LogTable(std::make_shared<const std::vector<double>>(with_zero(std::move(table)))) {}
  // Of 0 it is 0: a parent without visits has no exploration term.
  double operator()(uint64_t n) const { return n < size_ ? data_[n] : std::log(static_cast<double>(n)); }

 private:
  explicit LogTable(std::shared_ptr<const std::vector<double>> table) : table_(std::move(table)), data_(table_->data()), size_(table_->size()) {}
  static const std::shared_ptr<const std::vector<double>>& shared() {
    static const auto table = [] {
      std::vector<double> logs(1 << 16);
      for (size_t n = 1; n < logs.size(); ++n) logs[n] = std::log(static_cast<double>(n));
      return std::make_shared<const std::vector<double>>(std::move(logs));
    }();
    return table;
  }

  static std::vector<double> with_zero(std::vector<double> table) {
    if (table.empty()) table.emplace_back();
    table[0] = 0.0;
    return table;
  }

  std::shared_ptr<const std::vector<double>> table_;
  const double* data_;
  size_t size_;
};

struct Uct {
  double c = 2.0;
  double first_play_urgency = 0.0;
  double virtual_loss = 1.0;
};

// UCT of one child. `log_parent` is ln N(parent).
inline double uct_value(double value_sum, uint32_t visits, uint32_t in_flight, double log_parent, const Uct& uct) {
  if (visits == 0) {
    if (in_flight == 0) return uct.first_play_urgency;
    // Infinite urgency is for the first rollout only: the others must not queue behind it.
    const double urgency = std::isinf(uct.first_play_urgency) ? 0.0 : uct.first_play_urgency;
    return urgency - in_flight * uct.virtual_loss;
  }
  const double n = static_cast<double>(visits) + in_flight;
  const double q = in_flight == 0 ? value_sum / n : (value_sum - in_flight * uct.virtual_loss) / n;
  return q + uct.c * std::sqrt(log_parent / n);
}

// Position of the best of `count` siblings, at least one. All selectors return the same; "plain" is the formula written down.
using SelectChild = uint32_t (*)(const Stats* stats, uint32_t count, double log_parent, const Uct& uct);
// The same for several rollouts one after another: chosen[k] is what the k-th chooses when it sees those before it as virtual
// visits, at the children and at the parent, which has `parent_visits` for the first. The statistics stay as they are.
using SelectChildren = void (*)(const Stats* stats, uint32_t count, uint64_t parent_visits, const LogTable& log, const Uct& uct,
                                std::span<uint32_t> chosen);
struct Selector {
  const char* name;
  SelectChild one;
  SelectChildren several;
};
std::span<const Selector> selectors();  // those that this machine can run, the fastest first, "plain" last
extern const Selector selector;         // the first of them

// The same among siblings that are not terminal; kNone where all are.
uint32_t select_open_child(const Stats* stats, uint32_t count, double log_parent, const Uct& uct);

}  // namespace rstar
