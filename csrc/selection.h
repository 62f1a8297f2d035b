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
#include <vector>

#include "node.h"

namespace rstar {

// ln(n) for small n, precomputed: selection needs one per step. Given from outside when it must agree with another
// library's logarithm to the last bit; beyond its end std::log serves.
class LogTable {
 public:
  LogTable() {
    table_.resize(1 << 12);
    for (size_t n = 1; n < table_.size(); ++n) table_[n] = std::log(static_cast<double>(n));
  }
  explicit LogTable(std::vector<double> table) : table_(std::move(table)) {}
  double operator()(uint64_t n) const { return n < table_.size() ? table_[n] : std::log(static_cast<double>(n)); }

 private:
  std::vector<double> table_;  // [0] is never read: a parent without visits has no exploration term
};

struct Uct {
  double c = 2.0;
  double first_play_urgency = 0.0;
  double virtual_loss = 1.0;
};

// UCT of one child. `log_parent` is ln N(parent), or 0 where the parent has no visits.
inline double uct_value(double value_sum, uint32_t visits, uint32_t in_flight, double log_parent, const Uct& uct) {
  if (visits == 0) return in_flight == 0 ? uct.first_play_urgency : uct.first_play_urgency - in_flight * uct.virtual_loss;
  const double n = static_cast<double>(visits) + in_flight;
  const double q = in_flight == 0 ? value_sum / n : (value_sum - in_flight * uct.virtual_loss) / n;
  return q + uct.c * std::sqrt(log_parent / n);
}

// Position of the best of `count` siblings, or `count` when there is none to enter. With `skip_terminal`, terminal children
// are not entered.
inline uint32_t select_child(const Stats* stats, const Links* links, uint32_t count, uint64_t parent_visits, const LogTable& log,
                             const Uct& uct, bool skip_terminal) {
  const double log_parent = parent_visits == 0 ? 0.0 : log(parent_visits);
  double best_value = -std::numeric_limits<double>::infinity();
  uint32_t best = count;
  for (uint32_t i = 0; i < count; ++i) {
    if (skip_terminal && links[i].terminal.load(std::memory_order_relaxed) != Terminal::kNo) continue;
    const double value = uct_value(stats[i].value_sum.load(std::memory_order_relaxed), stats[i].visits.load(std::memory_order_relaxed),
                                   stats[i].in_flight.load(std::memory_order_relaxed), log_parent, uct);
    if (value > best_value || best == count) {
      best_value = value;
      best = i;
    }
  }
  return best;
}

}  // namespace rstar
