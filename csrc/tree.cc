#include "tree.h"

namespace rstar {

Index Nodes::allocate(uint32_t count) {
  const auto link = [this](Index i) -> std::atomic<Index>& {
    links.ensure(i);
    return links[i].first_child;
  };
  const Index first = space.allocate(count, link);
  const Index last = first + IndexSpace::rounded(count) - 1;
  stats.ensure(last);
  links.ensure(last);
  cold.ensure(last);
  for (Index i = first; i < first + count; ++i) {  // a recycled block holds what it held
    stats[i].value_sum.store(0.0, std::memory_order_relaxed);
    stats[i].visits.store(0, std::memory_order_relaxed);
    stats[i].in_flight.store(0, std::memory_order_relaxed);
    links[i].first_child.store(kNone, std::memory_order_relaxed);
    links[i].child_count.store(0, std::memory_order_relaxed);
    links[i].state.store(NodeState::kUnexpanded, std::memory_order_relaxed);
    links[i].terminal.store(Terminal::kNo, std::memory_order_relaxed);
    cold[i].first_value.store(0.0, std::memory_order_relaxed);
    cold[i].terminal_value = 0.0;
    cold[i].parent = kNone;
    cold[i].score = std::nanf("");
    cold[i].depth = 0;
  }
  return first;
}

void Nodes::release(Index first, uint32_t count) {
  space.release(first, count, [this](Index i) -> std::atomic<Index>& { return links[i].first_child; });
}

void visit(Nodes& nodes, Index node, double value) {
  Stats& stats = nodes.stats[node];
  stats.value_sum.fetch_add(value, std::memory_order_relaxed);
  if (stats.visits.fetch_add(1, std::memory_order_relaxed) == 0)
    nodes.cold[node].first_value.store(value, std::memory_order_relaxed);
}

void backup(Nodes& nodes, Index node, double value, uint32_t landed) {
  for (; node != kNone; node = nodes.cold[node].parent) {
    visit(nodes, node, value);
    if (landed != 0) nodes.stats[node].in_flight.fetch_sub(landed, std::memory_order_relaxed);
  }
}

void retreat(Nodes& nodes, Index node) {
  for (; node != kNone; node = nodes.cold[node].parent) nodes.stats[node].in_flight.fetch_sub(1, std::memory_order_relaxed);
}

namespace {

// Enters the best child of an expanded node; false where every child is terminal and may not be entered.
bool descend(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot, Index first) {
  Stats& here = nodes.stats[slot.node];
  const uint32_t count = nodes.links[slot.node].child_count.load(std::memory_order_relaxed);
  const uint32_t others = here.in_flight.load(std::memory_order_relaxed) - 1;  // this rollout is one of them
  const uint64_t parent_visits = uint64_t{here.visits.load(std::memory_order_relaxed)} + others;
  const uint32_t best =
      select_child(&nodes.stats[first], &nodes.links[first], count, parent_visits, log, rules.uct, rules.reference);
  if (best == count) return false;
  slot.node = first + best;
  nodes.stats[slot.node].in_flight.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool claim(Links& links) {
  NodeState state = NodeState::kUnexpanded;
  return links.state.compare_exchange_strong(state, NodeState::kClaimed, std::memory_order_acq_rel);
}

// The reference's rollout: the root is left without counting a step, every other step counts.
Arrival walk_reference(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot) {
  bool counts = slot.expansions != 0 || nodes.cold[slot.node].parent != kNone;
  bool resumed = slot.expansions != 0;
  while (true) {
    Links& links = nodes.links[slot.node];
    const bool is_terminal = links.terminal.load(std::memory_order_acquire) != Terminal::kNo;
    const Index first = links.first_child.load(std::memory_order_acquire);
    if (is_terminal || (counts && !resumed && slot.expansions == rules.max_expansions)) break;
    if (first == kNone) {
      if (!claim(links)) return Arrival::kWait;
      ++slot.expansions;
      return Arrival::kLeaf;
    }
    if (counts && !resumed) ++slot.expansions;
    counts = true;
    resumed = false;  // choosing among the children of a leaf just expanded belongs to that leaf's step
    if (!descend(nodes, rules, log, slot, first)) {
      links.terminal.store(Terminal::kExhausted, std::memory_order_release);
      break;
    }
  }
  retreat(nodes, slot.node);
  return Arrival::kEnded;
}

}  // namespace

Arrival walk(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot) {
  if (rules.reference) return walk_reference(nodes, rules, log, slot);
  while (true) {
    Links& links = nodes.links[slot.node];
    if (links.terminal.load(std::memory_order_acquire) != Terminal::kNo) {
      backup(nodes, slot.node, nodes.cold[slot.node].terminal_value, 1);
      return Arrival::kEnded;
    }
    Index first = links.first_child.load(std::memory_order_acquire);
    if (first == kNone) {
      if (claim(links)) return Arrival::kLeaf;
      if (links.state.load(std::memory_order_acquire) == NodeState::kClaimed) return Arrival::kWait;
      continue;  // expanded, closed or given back between the two looks
    }
    descend(nodes, rules, log, slot, first);
  }
}

Index expand(Nodes& nodes, const Rules& rules, Index leaf, const NewChild* children, uint32_t count) {
  const Index first = nodes.allocate(count);
  const uint16_t depth = static_cast<uint16_t>(nodes.cold[leaf].depth + 1);
  for (uint32_t i = 0; i < count; ++i) {
    const NewChild& child = children[i];
    const Index node = first + i;
    Cold& cold = nodes.cold[node];
    cold.parent = leaf;
    cold.depth = depth;
    cold.score = child.score;
    nodes.links[node].terminal.store(child.terminal, std::memory_order_relaxed);
    if (child.terminal != Terminal::kNo) cold.terminal_value = child.value;
    const bool has_value = !std::isnan(child.value);
    if (rules.reference && child.terminal == Terminal::kAnswer)
      backup(nodes, node, child.value, 0);
    else if (has_value && (rules.own_visits || (rules.reference && child.terminal != Terminal::kNo)))
      visit(nodes, node, child.value);
  }
  Links& links = nodes.links[leaf];
  links.child_count.store(static_cast<uint16_t>(count), std::memory_order_relaxed);
  links.first_child.store(first, std::memory_order_release);
  links.state.store(NodeState::kExpanded, std::memory_order_release);
  return first;
}

void close(Nodes& nodes, const Rules& rules, Index leaf, Terminal terminal, double value) {
  nodes.cold[leaf].terminal_value = value;
  if (rules.reference) visit(nodes, leaf, value);
  Links& links = nodes.links[leaf];
  links.terminal.store(terminal, std::memory_order_release);
  links.state.store(NodeState::kExpanded, std::memory_order_release);
}

}  // namespace rstar
