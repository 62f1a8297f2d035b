#include "tree.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace rstar {

namespace {
constexpr uint32_t kMostStacked = 64;  // nodes of a block whose links are used for the others of its stack
}

Index Stock::take(uint32_t count) {
  std::vector<Index>& blocks = blocks_[Nodes::Space::class_of(count)];
  if (blocks.empty()) {
    const Index stack = nodes_.space.recycle(count, [this](Index i) -> std::atomic<Index>& { return nodes_.blocks[i].next; });
    if (stack == kNone) {
      const Index first = nodes_.space.fresh(count);
      const Index last = first + nodes_.space.rounded(count) - 1;
      nodes_.stats.ensure(last);
      nodes_.links.ensure(last);
      nodes_.score.ensure(last);
      nodes_.values.ensure(last);
      nodes_.blocks.ensure(last);
      return first;
    }
    const BlockLink* const link = &nodes_.blocks[stack];
    for (uint32_t i = 0; i < link->count; ++i)
      blocks.push_back(i % 2 == 0 ? link[1 + i / 2].next.load(std::memory_order_relaxed) : link[1 + i / 2].count);
    return stack;
  }
  const Index first = blocks.back();
  blocks.pop_back();
  return first;
}

void Stock::put(Index first, uint32_t count) {
  const uint32_t size = nodes_.space.rounded(count);
  std::vector<Index>& blocks = blocks_[Nodes::Space::class_of(count)];
  blocks.push_back(first);
  if (blocks.size() > 2 * (std::min(size, kMostStacked) - 1)) push_stack(size);
}

// Makes a free stack of the blocks of this size, as many as one holds.
void Stock::push_stack(uint32_t size) {
  std::vector<Index>& blocks = blocks_[Nodes::Space::class_of(size)];
  const Index stack = blocks.back();
  blocks.pop_back();
  const size_t others = std::min<size_t>(blocks.size(), 2 * (std::min(size, kMostStacked) - 1));
  BlockLink* const link = &nodes_.blocks[stack];
  link->count = static_cast<uint32_t>(others);
  for (uint32_t i = 0; i < others; ++i) {
    if (i % 2 == 0)
      link[1 + i / 2].next.store(blocks[i], std::memory_order_relaxed);
    else
      link[1 + i / 2].count = blocks[i];
  }
  blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(others));
  nodes_.space.release(stack, size, [this](Index i) -> std::atomic<Index>& { return nodes_.blocks[i].next; });
}

void Stock::put_list(Index first) {
  while (first != kNone) {
    const BlockLink& link = nodes_.blocks[first];
    const Index next = link.next.load(std::memory_order_relaxed);
    const uint32_t count = link.count;
    if (next != kNone) prefetch(&nodes_.blocks[next]);
    put(first, count);
    first = next;
  }
}

Stock::~Stock() {
  for (uint32_t c = 1; c < blocks_.size(); ++c)
    while (!blocks_[c].empty()) push_stack(c <= 64 ? c : 1u << (c - 64 + 6));
}

void Path::grow() {
  const uint32_t capacity = capacity_ == 0 ? 24 : 2 * capacity_;
  auto* nodes = static_cast<Index*>(std::realloc(nodes_, capacity * sizeof(Index)));
  if (nodes == nullptr) throw std::bad_alloc();
  nodes_ = nodes;
  capacity_ = capacity;
}

void Path::free() {
  std::free(nodes_);
  nodes_ = nullptr;
  capacity_ = 0;
}

namespace {

// Adds a visit of `value` to one node, and `change` to its word with it.
template <typename Access>
void visit(Nodes& nodes, Index node, double value, uint64_t change = Word::kVisit) {
  Stats& stats = nodes.stats[node];
  const double sum = Access::add(stats.value_sum, value);
  const uint32_t visits = Access::add(stats, change).visits();
  // The first value is the sum until the second one comes.
  if constexpr (std::is_same_v<Access, Alone>) {
    if (visits == 1) nodes.values[node].first.store(sum, std::memory_order_relaxed);
  } else {
    if (visits == 0) nodes.values[node].first.store(value, std::memory_order_relaxed);
  }
}

}  // namespace

template <typename Access>
void backup(Nodes& nodes, const Slot& slot, double value, bool landed) {
  const uint64_t change = landed ? Word::kVisit - Word::kVirtualVisit : Word::kVisit;
  for (uint32_t depth = slot.depth + 1; depth-- > 0;) visit<Access>(nodes, slot.path[depth], value, change);
}

template <typename Access>
void retreat(Nodes& nodes, const Slot& slot) {
  for (uint32_t depth = slot.depth + 1; depth-- > 0;) Access::add(nodes.stats[slot.path[depth]], -Word::kVirtualVisit);
}

namespace {

// Enters the best child of an expanded node; false where every child is terminal and may not be entered.
template <typename Access>
bool descend(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot, Index first, uint32_t count) {
  const Word here = nodes.stats[slot.node].word();
  const uint64_t parent_visits = uint64_t{here.visits()} + here.in_flight() - 1;  // this rollout is one of those in flight
  const double log_parent = parent_visits == 0 ? 0.0 : log(parent_visits);
  Stats* const children = &nodes.stats[first];
  const uint32_t best = rules.reference ? select_open_child(children, count, log_parent, rules.uct)
                                        : select_child(children, count, log_parent, rules.uct);
  if (best == kNone) return false;
  Access::add(children[best], Word::kVirtualVisit);
  slot.stand(slot.depth + 1, first + best);
  return true;
}

// The reference's rollout: the root is left without counting a step, every other step counts.
Arrival walk_reference(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot) {
  bool counts = slot.expansions != 0 || slot.depth != 0;
  bool resumed = slot.expansions != 0;
  while (true) {
    Stats& stats = nodes.stats[slot.node];
    const bool is_terminal = stats.word(std::memory_order_acquire).terminal() != Terminal::kNo;
    if (is_terminal || (counts && !resumed && slot.expansions == rules.max_expansions)) break;
    const auto [first, count] = nodes.children(slot.node);
    if (first == kNone) {
      if (Alone::set(stats, Word::kClaimed).is_claimed()) return Arrival::kWait;
      ++slot.expansions;
      return Arrival::kLeaf;
    }
    if (counts && !resumed) ++slot.expansions;
    counts = true;
    resumed = false;  // choosing among the children of a leaf just expanded belongs to that leaf's step
    if (!descend<Alone>(nodes, rules, log, slot, first, count)) {
      Alone::set(stats, Word::of(Terminal::kExhausted));
      break;
    }
  }
  retreat<Alone>(nodes, slot);
  return Arrival::kEnded;
}

}  // namespace

template <typename Access>
Arrival walk(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot) {
  if (rules.reference) return walk_reference(nodes, rules, log, slot);
  while (true) {
    Stats& stats = nodes.stats[slot.node];
    const Word word = stats.word(std::memory_order_acquire);
    if (word.terminal() != Terminal::kNo) {
      backup<Access>(nodes, slot, nodes.values[slot.node].terminal, true);
      return Arrival::kEnded;
    }
    if (word.is_expanded()) {
      const Links& links = nodes.links[slot.node];
      descend<Access>(nodes, rules, log, slot, links.first_child.load(std::memory_order_relaxed), links.child_count);
      continue;
    }
    const Word before = Access::set(stats, Word::kClaimed, std::memory_order_acq_rel);
    if (before.is_expanded()) continue;  // between the two looks
    return before.is_claimed() ? Arrival::kWait : Arrival::kLeaf;
  }
}

namespace {

constexpr uint32_t kMostTogether = 64;  // siblings that are copied to be chosen among; wider blocks are walked one by one

// Some of the slots, side by side, that stand on one node.
struct Group {
  uint32_t begin, end;
};

// Chooses a child for each slot of the group. Returns the groups that stand on the chosen children, in `groups`.
void descend_together(Nodes& nodes, const Rules& rules, const LogTable& log, std::span<Slot*> slots, Group group, Index first,
                      uint32_t count, std::vector<Slot*>& moved, std::vector<Group>& groups) {
  const Index node = slots[group.begin]->node;
  const uint32_t size = group.end - group.begin;
  const Word here = nodes.stats[node].word();
  Stats* const children = &nodes.stats[first];
  // A slot sees those before it as virtual visits, and none behind it.
  uint64_t parent_visits = uint64_t{here.visits()} + here.in_flight() - size;
  Stats siblings[kMostTogether];
  for (uint32_t i = 0; i < count; ++i) {
    siblings[i].value_sum.store(children[i].sum(), std::memory_order_relaxed);
    siblings[i].bits.store(children[i].bits.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  uint32_t sizes[kMostTogether] = {};
  for (uint32_t at = group.begin; at < group.end; ++at, ++parent_visits) {
    const uint32_t best = select_child(siblings, count, parent_visits == 0 ? 0.0 : log(parent_visits), rules.uct);
    Alone::add(siblings[best], Word::kVirtualVisit);
    ++sizes[best];
    slots[at]->stand(slots[at]->depth + 1, first + best);
  }
  // Slots of one child next to each other, in order.
  uint32_t begins[kMostTogether], begin = group.begin;
  for (uint32_t i = 0; i < count; ++i) {
    begins[i] = begin;
    if (sizes[i] == 0) continue;
    groups.push_back({begin, begin + sizes[i]});
    begin += sizes[i];
    Shared::add(children[i], sizes[i] * Word::kVirtualVisit);
  }
  moved.assign(slots.begin() + group.begin, slots.begin() + group.end);
  for (Slot* slot : moved) slots[begins[slot->node - first]++] = slot;
}

}  // namespace

void walk_together(Nodes& nodes, const Rules& rules, const LogTable& log, std::span<Slot*> slots, std::vector<Arrival>& arrivals) {
  arrivals.assign(slots.size(), Arrival::kWait);
  std::vector<Group> groups{{0, static_cast<uint32_t>(slots.size())}}, next;
  std::vector<std::pair<Index, uint32_t>> families;
  std::vector<Slot*> moved;
  // A level at a time, so that the memory of all groups is on its way while that of the first is used.
  while (!groups.empty()) {
    families.clear();
    for (const Group& group : groups) {
      families.push_back(nodes.children(slots[group.begin]->node));
      const auto [first, count] = families.back();
      nodes.prefetch_family(first, count);
    }
    next.clear();
    for (size_t g = 0; g < groups.size(); ++g) {
      const Group group = groups[g];
      const auto [first, count] = families[g];
      if (first == kNone) {
        for (uint32_t at = group.begin; at < group.end; ++at) arrivals[at] = walk<Shared>(nodes, rules, log, *slots[at]);
      } else if (group.end - group.begin > 1 && count <= kMostTogether) {
        descend_together(nodes, rules, log, slots, group, first, count, moved, next);
      } else {
        for (uint32_t at = group.begin; at < group.end; ++at) {
          descend<Shared>(nodes, rules, log, *slots[at], first, count);
          next.push_back({at, at + 1});
        }
      }
    }
    for (const Group& group : next) {
      prefetch(&nodes.stats[slots[group.begin]->node]);
      prefetch(&nodes.links[slots[group.begin]->node]);
    }
    std::swap(groups, next);
  }
}

template <typename Access>
void expand(Nodes& nodes, const Rules& rules, const Slot& slot, const NewChild* children, uint32_t count, Index first,
            std::atomic<Index>& blocks) {
  BlockLink& block = nodes.blocks[first];
  block.count = count;
  // Only pushed to while the tree lives: nothing is read through the list before all pushes have been seen to end.
  Index next = blocks.load(std::memory_order_relaxed);
  block.next.store(next, std::memory_order_relaxed);
  if constexpr (std::is_same_v<Access, Alone>)
    blocks.store(first, std::memory_order_relaxed);
  else
    while (!blocks.compare_exchange_weak(next, first, std::memory_order_relaxed)) block.next.store(next, std::memory_order_relaxed);
  // A block lies within its chunks: its places are looked up once.
  Stats* const stats = &nodes.stats[first];
  Values* const values = &nodes.values[first];
  bool scored = false;
  for (uint32_t i = 0; i < count; ++i) {
    const NewChild& child = children[i];
    const bool is_terminal = child.terminal != Terminal::kNo;
    const bool counts = !std::isnan(child.value) && (rules.own_visits || (rules.reference && is_terminal));
    new (&stats[i]) Stats{counts ? child.value : 0.0, (counts ? Word::kVisit : 0) | Word::of(child.terminal)};
    if (is_terminal) values[i].terminal = child.value;
    if (std::is_same_v<Access, Shared> && counts) values[i].first.store(child.value, std::memory_order_relaxed);
    if (rules.reference && child.terminal == Terminal::kAnswer) backup<Access>(nodes, slot, child.value, false);
    scored = scored || !std::isnan(child.score);
  }
  if (scored) {
    float* const scores = &nodes.score[first];
    for (uint32_t i = 0; i < count; ++i) scores[i] = children[i].score;
  }
  Links& links = nodes.links[slot.node];
  links.first_child.store(first, std::memory_order_relaxed);
  links.child_count = static_cast<uint16_t>(count);
  links.scored = scored;
  Access::set(nodes.stats[slot.node], Word::kExpanded);
}

template <typename Access>
void close(Nodes& nodes, const Rules& rules, const Slot& slot, Terminal terminal, double value) {
  nodes.values[slot.node].terminal = value;
  nodes.links[slot.node].first_child.store(kNone, std::memory_order_relaxed);
  if (rules.reference) visit<Access>(nodes, slot.node, value);
  Access::set(nodes.stats[slot.node], Word::of(terminal) | Word::kExpanded);
}

#define RSTAR_INSTANTIATE(Access)                                                                  \
  template Arrival walk<Access>(Nodes&, const Rules&, const LogTable&, Slot&);                     \
  template void backup<Access>(Nodes&, const Slot&, double, bool);                             \
  template void retreat<Access>(Nodes&, const Slot&);                                              \
  template void expand<Access>(Nodes&, const Rules&, const Slot&, const NewChild*, uint32_t, Index, std::atomic<Index>&); \
  template void close<Access>(Nodes&, const Rules&, const Slot&, Terminal, double);
RSTAR_INSTANTIATE(Alone)
RSTAR_INSTANTIATE(Shared)
#undef RSTAR_INSTANTIATE

}  // namespace rstar
