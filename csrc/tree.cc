#include "tree.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace rstar {

namespace {
// How many others the first block of a stack has room to name.
uint32_t most_stacked(uint32_t size) { return (std::min(size, 64u) / Block::kNodes - 1) * static_cast<uint32_t>(Block::Names{}.size()); }
}  // namespace

Index Stock::take(uint32_t count) {
  std::vector<Index>& blocks = blocks_[Nodes::Space::class_of(count)];
  if (blocks.empty()) {
    const Index stack = nodes_.space.recycle(count, [this](Index i) -> std::atomic<Index>& { return nodes_.block(i).next; });
    if (stack == kNone) {
      const Index first = nodes_.space.fresh(count);
      const Index last = first + nodes_.space.rounded(count) - 1;
      nodes_.stats.ensure(last);
      nodes_.links.ensure(last);
      nodes_.score.ensure(last);
      nodes_.blocks.ensure(last / Block::kNodes);
      if (nodes_.notes) nodes_.note.ensure(last / Block::kNodes);
      return first;
    }
    const Block* block = &nodes_.block(stack);
    for (const size_t others = block->count; blocks.size() < others;) {
      const Block::Names names = (++block)->names();
      const size_t left = others - blocks.size();
      blocks.insert(blocks.end(), names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(left, names.size())));
    }
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
  if (blocks.size() > most_stacked(size)) push_stack(size);
}

// Makes a free stack of the blocks of this size, as many as one holds.
void Stock::push_stack(uint32_t size) {
  std::vector<Index>& blocks = blocks_[Nodes::Space::class_of(size)];
  const Index stack = blocks.back();
  blocks.pop_back();
  const size_t others = std::min<size_t>(blocks.size(), most_stacked(size));
  Block* block = &nodes_.block(stack);
  block->count = static_cast<uint32_t>(others);
  for (size_t i = 0; i < others;) {
    Block::Names names{};
    for (Index& name : names)
      if (i < others) name = blocks[i++];
    (++block)->set(names);
  }
  blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(others));
  nodes_.space.release(stack, size, [this](Index i) -> std::atomic<Index>& { return nodes_.block(i).next; });
}

void Stock::put_list(Index first) {
  while (first != kNone) {
    const Block& block = nodes_.block(first);
    const Index next = block.next.load(std::memory_order_relaxed);
    const uint32_t count = block.count;
    if (next != kNone) prefetch(&nodes_.block(next));
    if (nodes_.notes && nodes_.note_of(first) != kNone) nodes_.notes->release(nodes_.note_of(first));
    put(first, count);
    first = next;
  }
}

Stock::~Stock() {
  for (uint32_t c = 1; c < blocks_.size(); ++c)
    while (!blocks_[c].empty()) push_stack(Nodes::Space::size_of(c));
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

constexpr uint64_t kLanded = Word::kVisit - Word::kVirtualVisit;

// Keeps the value of the visit before which the node's word was `before`, if it is the first one. That of a terminal is in its links.
void note_first(Nodes& nodes, Index node, Word before, double value) {
  if (before.visits() == 0 && before.is_expanded())
    nodes.block(nodes.links[node].family().first).parent_value.store(value, std::memory_order_relaxed);
}

// Adds a visit of `value` to an expanded or terminal node, and `change` to its word with it.
template <typename Access>
void visit(Nodes& nodes, Index node, double value, uint64_t change = Word::kVisit) {
  Stats& stats = nodes.stats[node];
  Access::add(stats.value_sum, value);
  note_first(nodes, node, Access::add(stats, change), value);
}

// Adds a visit to a leaf whose claim the caller holds, and gives the claim up.
template <typename Access>
void visit_leaf(Nodes& nodes, Index node, double value) {
  Stats& stats = nodes.stats[node];
  if (stats.word().visits() == 1) nodes.links[node].set(stats.sum());
  Alone::add(stats.value_sum, value);  // nobody else changes it
  Access::add(stats, kLanded - Word::kClaimed, std::memory_order_release);
}

}  // namespace

template <typename Access>
void backup(Nodes& nodes, const Slot& slot, double value, bool landed) {
  const uint64_t change = landed ? kLanded : Word::kVisit;
  for (uint32_t depth = slot.depth + 1; depth-- > 0;) visit<Access>(nodes, slot.path[depth], value, change);
}

template <typename Access>
void backup_leaf(Nodes& nodes, const Slot& slot, double value) {
  visit_leaf<Access>(nodes, slot.node, value);
  for (uint32_t depth = slot.depth; depth-- > 0;) visit<Access>(nodes, slot.path[depth], value, kLanded);
}

constexpr uint32_t kSlotsAhead = 6;  // how far ahead of its use the memory of a path is asked for

void backup_leaves(Nodes& nodes, std::span<Slot* const> slots, const double* values) {
  // began[depth]: the first of the slots behind which all, up to the present one, have the same node at that depth.
  thread_local std::vector<uint32_t> began;
  const auto visit_once = [&](Index node, uint32_t begin, uint32_t end) {
    Stats& stats = nodes.stats[node];
    double sum = stats.sum(), next;
    do {
      next = sum;
      for (uint32_t at = begin; at < end; ++at) next += values[at];
    } while (!stats.value_sum.compare_exchange_weak(sum, next, std::memory_order_relaxed));
    note_first(nodes, node, Shared::add(stats, (end - begin) * kLanded), values[begin]);
  };
  uint32_t open = 0;  // depths that have begun
  for (uint32_t at = 0; at <= slots.size(); ++at) {
    if (at + kSlotsAhead < slots.size()) {
      const Slot& ahead = *slots[at + kSlotsAhead];
      for (uint32_t depth = 1; depth <= ahead.depth; ++depth) prefetch_to_write(&nodes.stats[ahead.path[depth]]);
    }
    uint32_t common = 0;
    if (at < slots.size()) {
      const Slot& slot = *slots[at];
      if (began.size() < slot.depth) began.resize(slot.depth);
      while (common < open && common < slot.depth && slot.path[common] == slots[at - 1]->path[common]) ++common;
    }
    for (; open > common; --open) visit_once(slots[at - 1]->path[open - 1], began[open - 1], at);
    if (at == slots.size()) break;
    // The leaf itself is held by this slot alone.
    for (; open < slots[at]->depth; ++open) began[open] = at;
    visit_leaf<Shared>(nodes, slots[at]->node, values[at]);
  }
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
  const double log_parent = log(parent_visits);
  Stats* const children = &nodes.stats[first];
  const uint32_t best = rules.reference ? select_open_child(children, count, log_parent, rules.uct)
                                        : selector.one(children, count, log_parent, rules.uct);
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
      const Links& links = nodes.links[slot.node];
      backup<Access>(nodes, slot, word.is_expanded() ? nodes.stats[links.family().first].sum() : links.value(), true);
      return Arrival::kEnded;
    }
    if (word.is_expanded()) {
      const Links::Family family = nodes.links[slot.node].family();
      descend<Access>(nodes, rules, log, slot, family.first, family.count);
      continue;
    }
    const Word before = Access::set(stats, Word::kClaimed, std::memory_order_acq_rel);
    if (before.is_expanded() || before.terminal() != Terminal::kNo) continue;  // between the two looks
    return before.is_claimed() ? Arrival::kWait : Arrival::kLeaf;
  }
}

namespace {

constexpr size_t kGroupsAhead = 6;  // how far ahead of its use the memory of a family is asked for

// Moves the slots of the group, which stand on one node, to the children that they chose.
void enter(Nodes& nodes, Walkers& walkers, Walkers::Group group, Index first, uint32_t count) {
  auto& [slots, arrivals, groups, next, families, chosen, begins, moved] = walkers;
  for (uint32_t at = group.begin; at < group.end; ++at) slots[at]->stand(slots[at]->depth + 1, first + chosen[at]);
  const auto came = [&](uint32_t child, uint32_t begin, uint32_t end) {
    Shared::add(nodes.stats[first + child], (end - begin) * Word::kVirtualVisit);
    prefetch(&nodes.links[first + child]);
    next.push_back({begin, end});
  };
  if (group.end - group.begin == 1) return came(chosen[group.begin], group.begin, group.end);
  // Slots of one child next to each other, in order.
  begins.assign(count, 0);
  for (uint32_t at = group.begin; at < group.end; ++at) ++begins[chosen[at]];
  uint32_t begin = group.begin;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t size = std::exchange(begins[i], begin);
    if (size != 0) came(i, begin, begin + size);
    begin += size;
  }
  moved.assign(slots.begin() + group.begin, slots.begin() + group.end);
  for (Slot* slot : moved) slots[begins[slot->node - first]++] = slot;
}

}  // namespace

void walk_together(Nodes& nodes, const Rules& rules, const LogTable& log, Walkers& walkers) {
  auto& [slots, arrivals, groups, next, families, chosen, begins, moved] = walkers;
  if (slots.size() == 1) {
    arrivals.assign(1, walk<Shared>(nodes, rules, log, *slots[0]));
    return;
  }
  arrivals.assign(slots.size(), Arrival::kWait);
  chosen.resize(slots.size());
  groups.assign(1, {0, static_cast<uint32_t>(slots.size())});
  // A level at a time, so that the memory of the next groups is on its way while that of one is used; and first all choose, then
  // all move, so that choices, which take long to come out, overlap.
  while (!groups.empty()) {
    families.resize(groups.size());
    const auto fetch = [&](size_t g) {
      if (g >= groups.size()) return;
      families[g] = nodes.children(slots[groups[g].begin]->node);
      nodes.prefetch_family(families[g].first, families[g].second);
    };
    for (size_t g = 0; g < kGroupsAhead; ++g) fetch(g);
    for (size_t g = 0; g < groups.size(); ++g) {
      fetch(g + kGroupsAhead);
      const auto [begin, end] = groups[g];
      const auto [first, count] = families[g];
      if (first == kNone) continue;
      const Word here = nodes.stats[slots[begin]->node].word();
      // A slot sees those before it as virtual visits, and none behind it.
      const uint64_t parent_visits = uint64_t{here.visits()} + here.in_flight() - (end - begin);
      const Stats* const children = &nodes.stats[first];
      if (end - begin == 1)
        chosen[begin] = selector.one(children, count, log(parent_visits), rules.uct);
      else
        selector.several(children, count, parent_visits, log, rules.uct, std::span(chosen).subspan(begin, end - begin));
      for (uint32_t at = begin; at < end; ++at) prefetch_to_write(children + chosen[at]);
    }
    next.clear();
    for (size_t g = 0; g < groups.size(); ++g) {
      const auto [first, count] = families[g];
      if (first != kNone) {
        enter(nodes, walkers, groups[g], first, count);
      } else {
        for (uint32_t at = groups[g].begin; at < groups[g].end; ++at) arrivals[at] = walk<Shared>(nodes, rules, log, *slots[at]);
      }
    }
    std::swap(groups, next);
  }
}

namespace {

// Puts a block at the front of a tree's list, and the leaf's first value, if it has one, into it.
template <typename Access>
void attach(Nodes& nodes, Index leaf, Index first, uint32_t count, Index note, std::atomic<Index>& blocks) {
  if (nodes.notes) nodes.note_of(first) = note;
  Block& block = nodes.block(first);
  block.count = count;
  const Stats& stats = nodes.stats[leaf];
  const uint32_t visits = stats.word().visits();
  const double first_value = visits == 0 ? 0.0 : visits == 1 ? stats.sum() : nodes.links[leaf].value();
  block.parent_value.store(first_value, std::memory_order_relaxed);
  // Only pushed to while the tree lives: nothing is read through the list before all pushes have been seen to end.
  Index next = blocks.load(std::memory_order_relaxed);
  block.next.store(next, std::memory_order_relaxed);
  if constexpr (std::is_same_v<Access, Alone>)
    blocks.store(first, std::memory_order_relaxed);
  else
    while (!blocks.compare_exchange_weak(next, first, std::memory_order_relaxed)) block.next.store(next, std::memory_order_relaxed);
}

}  // namespace

template <typename Access>
void expand(Nodes& nodes, const Rules& rules, const Slot& slot, const NewChild* children, uint32_t count, Index first, Index note,
            std::atomic<Index>& blocks) {
  attach<Access>(nodes, slot.node, first, count, note, blocks);
  // A block lies within its chunks: its places are looked up once.
  Stats* const stats = &nodes.stats[first];
  Links* const below = &nodes.links[first];
  const bool own_visits = rules.own_visits, reference = rules.reference;  // not read again after every store
  bool scored = false;
  for (uint32_t i = 0; i < count; ++i) {
    const NewChild& child = children[i];
    const bool is_terminal = child.terminal != Terminal::kNo;
    const bool counts = !std::isnan(child.value) && (own_visits || (reference && is_terminal));
    new (&stats[i]) Stats{counts ? child.value : 0.0, (counts ? Word::kVisit : 0) | Word::of(child.terminal)};
    if (is_terminal) below[i].set(child.value);
    scored = scored || !std::isnan(child.score);
  }
  if (scored) {
    float* const scores = &nodes.score[first];
    for (uint32_t i = 0; i < count; ++i) scores[i] = children[i].score;
  }
  nodes.links[slot.node].set({first, count, scored});
  Access::set(nodes.stats[slot.node], Word::kExpanded);
  if (!reference) return;
  for (uint32_t i = 0; i < count; ++i)
    if (children[i].terminal == Terminal::kAnswer) backup<Access>(nodes, slot, children[i].value, false);
}

template <typename Access>
void close(Nodes& nodes, const Rules& rules, const Slot& slot, Terminal terminal, double value, Index first, std::atomic<Index>& blocks) {
  Links& links = nodes.links[slot.node];
  uint64_t bits = Word::of(terminal);
  if (first == kNone) {
    links.set(value);
  } else {
    attach<Access>(nodes, slot.node, first, 1, kNone, blocks);
    new (&nodes.stats[first]) Stats{value, 0};
    links.set({first, 0, false});
    bits |= Word::kExpanded;
  }
  if (rules.reference) visit<Access>(nodes, slot.node, value);
  Access::set(nodes.stats[slot.node], bits);
}

#define RSTAR_INSTANTIATE(Access)                                                                                               \
  template Arrival walk<Access>(Nodes&, const Rules&, const LogTable&, Slot&);                                                  \
  template void backup<Access>(Nodes&, const Slot&, double, bool);                                                              \
  template void backup_leaf<Access>(Nodes&, const Slot&, double);                                                               \
  template void retreat<Access>(Nodes&, const Slot&);                                                                           \
  template void expand<Access>(Nodes&, const Rules&, const Slot&, const NewChild*, uint32_t, Index, Index, std::atomic<Index>&); \
  template void close<Access>(Nodes&, const Rules&, const Slot&, Terminal, double, Index, std::atomic<Index>&);
RSTAR_INSTANTIATE(Alone)
RSTAR_INSTANTIATE(Shared)
#undef RSTAR_INSTANTIATE

}  // namespace rstar
