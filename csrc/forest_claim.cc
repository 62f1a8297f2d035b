// Leaves that a caller chooses himself, and how many rollouts a tree runs: Forest::claim, leave, stop, extend.
#include "forest.h"

namespace rstar {

namespace {

std::string of_tree(uint32_t id) { return " of tree " + std::to_string(id); }

// A path goes from the root over children of the node before.
void check_path(const Nodes& nodes, uint32_t id, Index root, std::span<const Index> path) {
  if (path.empty() || path[0] != root)
    throw UsageError("a path" + of_tree(id) + (path.empty() ? " is empty" : " begins with node " + std::to_string(path[0])) + ": begin with the root, " + std::to_string(root));
  for (size_t depth = 1; depth < path.size(); ++depth) {
    const auto [first, count] = nodes.children(path[depth - 1]);
    if (first == kNone || path[depth] < first || path[depth] - first >= count)
      throw UsageError("a path" + of_tree(id) + " goes from node " + std::to_string(path[depth - 1]) + " to node " + std::to_string(path[depth]) + ", which is no child of it");
  }
}

}  // namespace

// Owns a slot of the tree that has no rollout; slots from `first` on are looked at first.
Slot& Forest::free_slot(uint32_t id, Tree& tree, uint32_t first) {
  const TreeWord running = tree.word.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < slots_per_tree_ && state_of(running) == TreeState::kRunning; ++i) {
    Slot& slot = slots_[tree.first_slot + (first + i) % slots_per_tree_];
    if (!slot.gate.take(SlotState::kFree)) continue;
    if (slot.tree == id && tree.word.load(std::memory_order_acquire) == running) return slot;
    slot.gate.give(SlotState::kFree);
  }
  throw UsageError("all rollouts" + of_tree(id) + " that may be in flight are, " + std::to_string(slots_per_tree_) + ", or it has ended: leave some, or extend it");
}

// A rollout on its way to the end of the path, whose leaf it holds; the slot, behind `last` where it is of the same tree, is the caller's.
template <typename Access>
Slot& Forest::claim_one(uint32_t id, std::span<const Index> path, const Slot* last) {
  Tree& tree = const_cast<Tree&>(existing(id));
  check_path(nodes_, id, tree.root, path);
  // Many leaves of a tree: the slots before are taken.
  Slot& slot = free_slot(id, tree, last != nullptr && last->tree == id ? static_cast<uint32_t>(last->index) - tree.first_slot + 1 : 0);
  Slot* const one[] = {&slot};
  if (start<Access>(tree, one) == 0) {
    slot.gate.give(SlotState::kFree);
    throw UsageError("tree " + std::to_string(id) + " has no rollout left: extend it");
  }
  for (uint32_t depth = 1; depth < path.size(); ++depth) {
    slot.stand(depth, path[depth]);
    Access::add(nodes_.stats[path[depth]], Word::kVirtualVisit);
  }
  Stats& stats = nodes_.stats[slot.node];
  Word word = stats.word(std::memory_order_acquire);
  if (word.terminal() == Terminal::kNo && !word.is_expanded()) {
    word = Access::set(stats, Word::kClaimed, std::memory_order_acq_rel);
    if (!word.is_claimed() && !word.is_expanded() && word.terminal() == Terminal::kNo) return slot;
  }
  take_back<Access>(slot);
  slot.gate.give(SlotState::kFree);
  const std::string why = word.terminal() != Terminal::kNo ? " is terminal" : word.is_expanded() ? " has children" : " is held by another rollout";
  throw UsageError("node " + std::to_string(path.back()) + of_tree(id) + why + ": claim a leaf that nobody holds");
}

std::vector<Leaf> Forest::claim(std::span<const uint32_t> trees, std::span<const uint32_t> lengths, std::span<const Index> nodes) {
  if (rules_.reference) throw UsageError("the reference chooses its leaves itself: select them");
  uint64_t total = 0;
  for (uint32_t length : lengths) total += length;
  if (lengths.size() != trees.size() || total != nodes.size())
    throw UsageError("give one length for each tree, that add up to the nodes: there are " + std::to_string(trees.size()) + " trees, " +
                     std::to_string(lengths.size()) + " lengths that add up to " + std::to_string(total) + ", and " + std::to_string(nodes.size()) + " nodes");
  if (const size_t granted = take_part(trees.size()); granted < trees.size()) {
    came_back(granted);
    throw UsageError("more leaves would be out than the " + std::to_string(most_out_) + " that may be: claim fewer");
  }
  std::vector<Slot*> slots;
  std::vector<Leaf> leaves;
  with_access([&](auto access) {
    using Access = decltype(access);
    try {
      slots.reserve(trees.size());
      leaves.reserve(trees.size());
      for (size_t b = 0; b < trees.size(); ++b) {
        slots.push_back(&claim_one<Access>(trees[b], nodes.first(lengths[b]), slots.empty() ? nullptr : slots.back()));
        nodes = nodes.subspan(lengths[b]);
      }
    } catch (...) {
      for (Slot* slot : slots) {
        Access::clear(nodes_.stats[slot->node], Word::kClaimed);
        take_back<Access>(*slot);
        slot->gate.give(SlotState::kFree);
      }
      came_back(trees.size());
      throw;
    }
  });
  for (size_t b = 0; b < trees.size(); ++b) hand_out(trees[b], *slots[b], leaves);
  return leaves;
}

void Forest::leave(std::span<const Ticket> tickets) {
  std::vector<Slot*> slots;
  slots.reserve(tickets.size());
  try {
    for (Ticket ticket : tickets) {
      Slot& slot = const_cast<Slot&>(slot_of(ticket));
      if (!slot.gate.take_ready(generation_of(ticket)))
        throw UsageError("the rollout of ticket " + std::to_string(ticket) + " does not wait where its leaf was: expand or close the leaf, then leave it once, before a select");
      slots.push_back(&slot);
    }
  } catch (...) {
    for (Slot* slot : slots) slot->gate.give(SlotState::kReady);
    throw;
  }
  with_access([&](auto access) {
    for (Slot* slot : slots) {
      take_back<decltype(access)>(*slot);
      slot->gate.give(SlotState::kFree);
    }
  });
}

void Forest::stop(uint32_t id) { const_cast<Tree&>(existing(id)).stopped.store(true); }

void Forest::extend(uint32_t id, uint32_t rollouts) {
  Tree& tree = const_cast<Tree&>(existing(id));
  const uint32_t before = tree.stopped.load() ? tree.started.load() : static_cast<uint32_t>(tree.target);
  if (rollouts > std::numeric_limits<uint32_t>::max() - before)
    throw UsageError("tree " + std::to_string(id) + " would run more than 2^32 - 1 rollouts: extend it by fewer");
  tree.target = before + rollouts;
  tree.stopped.store(false);
  // Another word: a select that has read the old target can no longer say that the tree has finished.
  TreeWord word = tree.word.load(std::memory_order_relaxed);
  while (!tree.word.compare_exchange_weak(word, with_state(word + 4, TreeState::kRunning), std::memory_order_acq_rel)) {
  }
}

}  // namespace rstar
