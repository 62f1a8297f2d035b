#include "forest.h"

#include <algorithm>
#include <string>
#include <thread>

namespace rstar {

Forest::Forest(Rules rules, LogTable log, uint32_t in_flight, uint64_t most_out, bool notes)
    : rules_(rules), log_(std::move(log)), slots_per_tree_(in_flight), most_out_(most_out == 0 ? kNoLimit : most_out), nodes_(notes) {
  static std::atomic<uint64_t> forests{0};
  number_ = forests.fetch_add(1, std::memory_order_relaxed) + 1;
  if (in_flight == 0 || in_flight > kMostInFlight)
    throw UsageError("in_flight is " + std::to_string(in_flight) + ": give 1 to " + std::to_string(kMostInFlight));
  if (rules.reference && in_flight != 1)
    throw UsageError("in_flight is " + std::to_string(in_flight) + ": the reference has one rollout at a time, give 1");
}

Forest::~Forest() {
  for (Index slot = 0; slot < std::min(slot_space_.high_water(), slots_.available()); ++slot) slots_[slot].path.free();
}

uint32_t Forest::add_tree(uint32_t rollouts) {
  const uint32_t id = tree_space_.allocate(1, [this](Index i) -> std::atomic<Index>& { return trees_[i].next_free; });
  trees_.ensure(id);
  Tree& tree = trees_[id];
  const Index first_slot =
      slot_space_.allocate(slots_per_tree_, [this](Index i) -> std::atomic<Index>& { return slots_[i].next_free; });
  slots_.ensure(first_slot + slot_space_.rounded(slots_per_tree_) - 1);
  const Index root = Stock(nodes_).take(1);
  new (&nodes_.stats[root]) Stats;
  Block& block = nodes_.block(root);
  block.next.store(kNone, std::memory_order_relaxed);
  block.count = 1;
  if (nodes_.notes) nodes_.note_of(root) = kNone;
  tree.blocks.store(root, std::memory_order_relaxed);
  tree.root = root;
  tree.first_slot = first_slot;
  tree.target = rollouts;
  tree.started.store(0, std::memory_order_relaxed);
  tree.ended.store(0, std::memory_order_relaxed);
  tree.stopped.store(false, std::memory_order_relaxed);
  for (uint32_t i = 0; i < slots_per_tree_; ++i) {  // new, or left as owned by remove(): nobody else touches them
    Slot& slot = slots_[first_slot + i];
    slot.tree = id;
    slot.index = first_slot + i;
    slot.gate.give(SlotState::kFree);
  }
  tree.word.store(with_state(tree.word.load(std::memory_order_relaxed) + 4, TreeState::kRunning), std::memory_order_release);
  return id;
}

namespace {

[[noreturn]] void throw_leaf_out(uint32_t tree) {
  throw UsageError("tree " + std::to_string(tree) + " has a leaf out: expand or cancel it before removing the tree");
}

}  // namespace

void Forest::remove(uint32_t id) {
  Tree& tree = const_cast<Tree&>(existing(id));
  for (uint32_t i = 0; i < slots_per_tree_; ++i)
    if (slots_[tree.first_slot + i].gate.state(std::memory_order_acquire) == SlotState::kOut) throw_leaf_out(id);
  TreeWord word = tree.word.load(std::memory_order_relaxed);
  do {
    if (state_of(word) != TreeState::kRunning && state_of(word) != TreeState::kFinished) existing(id);  // removed meanwhile: says so
  } while (!tree.word.compare_exchange_weak(word, with_state(word, TreeState::kRemoving), std::memory_order_acq_rel));
  // Who owns all slots is alone with the tree: a select that has just read kRunning looks again once it owns one.
  std::vector<SlotState> owned;
  for (uint32_t i = 0; i < slots_per_tree_; ++i) {
    Gate& gate = slots_[tree.first_slot + i].gate;
    SlotState was = gate.state();
    for (; was != SlotState::kOut && (was == SlotState::kWalking || !gate.take(was)); was = gate.state())
      if (was == SlotState::kWalking) std::this_thread::yield();
    if (was != SlotState::kOut) {
      owned.push_back(was);
      continue;
    }
    // A select that was inside the tree has handed out a leaf: all is as before.
    for (uint32_t j = 0; j < i; ++j) slots_[tree.first_slot + j].gate.give(owned[j]);
    tree.word.store(word, std::memory_order_release);
    throw_leaf_out(id);
  }
  Stock(nodes_).put_list(tree.blocks.load(std::memory_order_relaxed));
  slot_space_.release(tree.first_slot, slots_per_tree_, [this](Index i) -> std::atomic<Index>& { return slots_[i].next_free; });
  tree.word.store(with_state(word, TreeState::kUnused), std::memory_order_release);
  tree_space_.release(id, 1, [this](Index i) -> std::atomic<Index>& { return trees_[i].next_free; });
}

const Slot& Forest::slot_of(Ticket ticket) const {
  const uint32_t index = static_cast<uint32_t>(ticket);
  if (ticket < 0 || index >= slots_.available())
    throw UsageError("ticket " + std::to_string(ticket) + " was never handed out by this forest");
  return slots_[index];
}

namespace {

[[noreturn]] void throw_used_up(Ticket ticket) {
  throw UsageError("ticket " + std::to_string(ticket) + " is used up: each leaf is expanded, valued, closed or cancelled once");
}

}  // namespace

// The slot of a ticket, taken out of kOut: from here on this ticket is used up.
Slot& Forest::take(Ticket ticket) {
  Slot& slot = const_cast<Slot&>(slot_of(ticket));
  if (!slot.gate.take_out(generation_of(ticket))) throw_used_up(ticket);
  return slot;
}

std::vector<std::string> Forest::solutions(std::span<const Ticket> tickets) const {
  if (!nodes_.notes) throw UsageError("this forest keeps no texts: make it with notes=True");
  std::vector<std::string> solutions(tickets.size());
  for (size_t b = 0; b < tickets.size(); ++b) {
    const Slot& slot = slot_of(tickets[b]);
    if (!slot.gate.is_out(generation_of(tickets[b]))) throw_used_up(tickets[b]);
    for (uint32_t depth = 1; depth <= slot.depth; ++depth) {
      const auto [first, count] = nodes_.children(slot.path[depth - 1]);
      const Index note = nodes_.note_of(first);
      if (note != kNone) solutions[b] += nodes_.notes->text(note, count, slot.path[depth] - first, 0);
    }
  }
  return solutions;
}

// Takes all the tickets or, where one is wrong, none.
std::vector<Slot*> Forest::take_all(std::span<const Ticket> tickets) {
  std::vector<Slot*> slots;
  slots.reserve(tickets.size());
  try {
    for (size_t b = 0; b < tickets.size(); ++b) {
      if (b + kAhead < tickets.size() && static_cast<uint32_t>(tickets[b + kAhead]) < slots_.available())
        prefetch(&slots_[static_cast<uint32_t>(tickets[b + kAhead])]);
      slots.push_back(&take(tickets[b]));
    }
  } catch (...) {
    for (Slot* slot : slots) slot->gate.give(SlotState::kOut);
    throw;
  }
  return slots;
}

void Forest::came_back(size_t leaves) {
  if (most_out_ != kNoLimit) out_.fetch_sub(leaves, std::memory_order_relaxed);
}

std::vector<Index> Forest::expand(std::span<const Ticket> tickets, std::span<const uint32_t> counts, std::span<const NewChild> children,
                                  std::span<const Note> notes, std::string_view bytes) {
  if (nodes_.notes ? notes.size() != children.size() : !notes.empty())
    throw UsageError(nodes_.notes ? "this forest keeps texts: give notes for each child" : "this forest keeps no texts: make it with notes=True");
  size_t total = 0;
  for (uint32_t count : counts) {
    if (count == 0 || count > Nodes::kMostChildren)
      throw UsageError("a leaf got " + std::to_string(count) + " children: give 1 to " + std::to_string(Nodes::kMostChildren));
    total += count;
  }
  if (total != children.size())
    throw UsageError("the counts add up to " + std::to_string(total) + " children, but " + std::to_string(children.size()) + " were given");
  std::vector<Index> firsts(tickets.size()), kept;
  const std::vector<Slot*> slots = take_all(tickets);
  Stock stock(nodes_);
  size_t have = 0;
  try {
    if (nodes_.notes) kept = keep(counts, notes, bytes);
    for (; have < slots.size(); ++have) firsts[have] = stock.take(counts[have]);
  } catch (...) {  // the memory or the indices have come to their end: nothing has changed
    for (size_t b = 0; b < have; ++b) stock.put(firsts[b], counts[b]);
    for (Index note : kept) nodes_.notes->release(note);
    for (Slot* slot : slots) slot->gate.give(SlotState::kOut);
    throw;
  }
  came_back(slots.size());
  const auto fetch = [&](size_t b) {
    if (b >= slots.size()) return;
    const uint32_t most = std::min(counts[b], 64u);
    Stats* const stats = &nodes_.stats[firsts[b]];
    for (uint32_t i = 0; i < most; i += 4) prefetch_to_write(stats + i);
    float* const scores = &nodes_.score[firsts[b]];
    for (uint32_t i = 0; i < most && rules_.own_visits; i += 16) prefetch_to_write(scores + i);
    prefetch_to_write(&nodes_.block(firsts[b]));
    prefetch_to_write(&nodes_.links[slots[b]->node]);
  };
  for (size_t b = 0; b < kAhead; ++b) fetch(b);
  with_access([&](auto access) {
    const NewChild* next = children.data();
    for (size_t b = 0; b < slots.size(); ++b) {
      fetch(b + kAhead);
      Slot& slot = *slots[b];
      const Index note = kept.empty() ? kNone : kept[b];
      rstar::expand<decltype(access)>(nodes_, rules_, slot, next, counts[b], firsts[b], note, trees_[slot.tree].blocks);
      next += counts[b];
      slot.gate.give(SlotState::kReady);
    }
  });
  return firsts;
}

// The notes of families of `counts` children, each kept for itself.
std::vector<Index> Forest::keep(std::span<const uint32_t> counts, std::span<const Note> notes, std::string_view bytes) {
  std::vector<Index> kept;
  std::vector<Note> own;
  try {
    uint32_t begin = 0;  // of the family's bytes
    for (uint32_t count : counts) {
      own.assign(notes.begin(), notes.begin() + count);
      notes = notes.subspan(count);
      const uint32_t end = own.back().ends[Note::kTexts - 1];
      for (Note& note : own)
        for (uint32_t& text_end : note.ends) text_end -= begin;
      kept.push_back(nodes_.notes->add(own, bytes.substr(begin, end - begin)));
      begin = end;
    }
  } catch (...) {
    for (Index note : kept) nodes_.notes->release(note);
    throw;
  }
  return kept;
}

void Forest::backup(std::span<const Ticket> tickets, std::span<const double> values) {
  if (tickets.size() != values.size())
    throw UsageError(std::to_string(tickets.size()) + " tickets came with " + std::to_string(values.size()) + " values: give one for each");
  const std::vector<Slot*> slots = take_all(tickets);
  came_back(slots.size());
  if (slots_per_tree_ == 1) {
    for (size_t b = 0; b < slots.size(); ++b) {
      Slot& slot = *slots[b];
      if (b + kAhead < slots.size()) prefetch(&nodes_.stats[slots[b + kAhead]->node]);
      backup_leaf<Alone>(nodes_, slot, values[b]);
      Alone::add(trees_[slot.tree].ended, 1u);
      slot.gate.give(SlotState::kFree);
    }
    return;
  }
  for (size_t begin = 0, end; begin < slots.size(); begin = end) {
    const uint32_t tree = slots[begin]->tree;
    for (end = begin + 1; end < slots.size() && slots[end]->tree == tree;) ++end;
    const std::span<Slot* const> same = std::span(slots).subspan(begin, end - begin);
    backup_leaves(nodes_, same, values.data() + begin);
    // Before the slots are free: a tree that has ended may be removed, once its slots can be had.
    trees_[tree].ended.fetch_add(static_cast<uint32_t>(same.size()), std::memory_order_release);
    for (Slot* slot : same) slot->gate.give(SlotState::kFree);
  }
}

void Forest::close(Ticket ticket, Terminal terminal, double value) {
  if (terminal == Terminal::kNo) throw UsageError("a leaf is closed as 0, which says that it goes on: give a terminal's code");
  Slot& slot = take(ticket);
  Index first = kNone;
  try {
    if (nodes_.stats[slot.node].word().visits() != 0) first = Stock(nodes_).take(1);
  } catch (...) {  // as in expand
    slot.gate.give(SlotState::kOut);
    throw;
  }
  came_back(1);
  with_access([&](auto access) {
    rstar::close<decltype(access)>(nodes_, rules_, slot, terminal, value, first, trees_[slot.tree].blocks);
  });
  slot.gate.give(SlotState::kReady);
}

void Forest::cancel(Ticket ticket) {
  Slot& slot = take(ticket);
  came_back(1);
  with_access([&](auto access) {
    access.clear(nodes_.stats[slot.node], Word::kClaimed);
    take_back<decltype(access)>(slot);
  });
  slot.gate.give(SlotState::kFree);
}

const Tree& Forest::existing(uint32_t id) const {
  if (id < tree_count()) {
    const TreeState state = state_of(trees_[id].word.load(std::memory_order_acquire));
    if (state == TreeState::kRunning || state == TreeState::kFinished) return trees_[id];
  }
  throw UsageError("there is no tree " + std::to_string(id) + " in this forest: it was never added, or was removed");
}

template <typename Visit>
void Forest::breadth_first(Index root, Visit&& visit) const {
  std::vector<Index> queue{root};
  for (size_t at = 0; at < queue.size(); ++at) {
    const Index node = queue[at];
    const auto [first, count] = nodes_.children(node);
    const Index position = static_cast<Index>(queue.size());  // where the children will stand
    for (uint32_t i = 0; i < count; ++i) queue.push_back(first + i);
    visit(node, position, first, count);
  }
}

// The value that was first backed up into a visited node; 0 where a leaf that has more than one visit is out.
double Forest::first_value(Index node, Word word, double sum) const {
  const auto of_expanded = [&] { return nodes_.block(nodes_.links[node].family().first).parent_value.load(std::memory_order_relaxed); };
  if (word.is_expanded()) return of_expanded();
  if (word.visits() == 1) return sum;
  const double value = nodes_.links[node].value(std::memory_order_acquire);
  if (word.terminal() != Terminal::kNo) return value;
  // Of a leaf that somebody holds, the links may be a family's already.
  const Word now = nodes_.stats[node].word(std::memory_order_acquire);
  return now.is_expanded() ? of_expanded() : now.is_claimed() ? 0.0 : value;
}

Columns Forest::columns(uint32_t id) const {
  Columns columns;
  std::vector<int32_t> parents{-1};
  std::vector<uint16_t> depths{0};
  std::vector<float> scores{std::nanf("")};
  const bool notes = nodes_.notes.has_value();
  if (notes) {
    columns.proposals.push_back(1);
    for (auto& offsets : columns.text_offsets) offsets.assign(2, 0);
  }
  breadth_first(existing(id).root, [&](Index node, Index position, Index first, uint32_t count) {
    const Stats& stats = nodes_.stats[node];
    const int32_t self = static_cast<int32_t>(columns.node.size());
    parents.insert(parents.end(), count, self);
    depths.insert(depths.end(), count, static_cast<uint16_t>(depths[self] + 1));
    const bool scored = count != 0 && nodes_.links[node].family().scored;
    for (uint32_t i = 0; i < count; ++i) scores.push_back(scored ? nodes_.score[first + i] : std::nanf(""));
    const Index note = notes && count != 0 ? nodes_.note_of(first) : kNone;
    for (uint32_t i = 0; i < count && notes; ++i) {
      columns.proposals.push_back(note == kNone ? 1 : nodes_.notes->proposals(note, i));
      for (uint32_t which = 0; which < Note::kTexts; ++which) {
        const std::string_view text = note == kNone ? std::string_view{} : nodes_.notes->text(note, count, i, which);
        columns.text_bytes[which].insert(columns.text_bytes[which].end(), text.begin(), text.end());
        columns.text_offsets[which].push_back(static_cast<int64_t>(columns.text_bytes[which].size()));
      }
    }
    columns.node.push_back(node);
    columns.first_child.push_back(count == 0 ? -1 : static_cast<int32_t>(position));
    columns.child_count.push_back(static_cast<int32_t>(count));
    const Word word = stats.word(std::memory_order_acquire);
    const uint32_t visits = word.visits();
    columns.visits.push_back(visits);
    const double sum = stats.sum();
    columns.value_sum.push_back(sum);
    columns.value.push_back(visits == 0 ? 0.0 : first_value(node, word, sum));
    columns.terminal.push_back(static_cast<uint8_t>(word.terminal()));
  });
  columns.parent = std::move(parents);
  columns.depth = std::move(depths);
  columns.score = std::move(scores);
  return columns;
}

uint64_t Forest::in_flight(uint32_t id) const {
  uint64_t sum = 0;
  breadth_first(existing(id).root,
                [&](Index node, Index, Index, uint32_t) { sum += nodes_.stats[node].word().in_flight(); });
  return sum;
}

uint32_t Forest::rollouts_ended(uint32_t id) const { return existing(id).ended.load(std::memory_order_relaxed); }

uint32_t Forest::tree_count() const { return std::min(tree_space_.high_water(), trees_.available()); }

Index Forest::root(uint32_t id) const { return existing(id).root; }

}  // namespace rstar
