// Forest::select: who takes which leaves of which trees.
#include <algorithm>
#include <type_traits>
#include <unordered_map>

#include "forest.h"

namespace rstar {

// Rollouts at the root for the first of the slots, as many as the tree has left; their number.
template <typename Access>
uint32_t Forest::start(Tree& tree, std::span<Slot* const> slots) {
  uint32_t started = tree.started.load(std::memory_order_relaxed), count;
  do {
    count = std::min(static_cast<uint32_t>(slots.size()), tree.target - std::min<uint32_t>(started, tree.target));
    if (count == 0 || tree.stopped.load(std::memory_order_relaxed)) return 0;
    if constexpr (std::is_same_v<Access, Alone>) {
      tree.started.store(started + count, std::memory_order_relaxed);
      break;
    }
  } while (!tree.started.compare_exchange_weak(started, started + count));
  if (std::is_same_v<Access, Shared> && tree.stopped.load()) {  // meanwhile: see Tree::stopped
    tree.started.fetch_sub(count);
    return 0;
  }
  for (Slot* slot : slots.first(count)) {
    slot->stand(0, tree.root);
    slot->expansions = 0;
  }
  Access::add(nodes_.stats[tree.root], count * Word::kVirtualVisit);
  return count;
}

// Takes a rollout off the nodes of its path, as if it had never started. The slot is the caller's, who then gives it on.
template <typename Access>
void Forest::take_back(const Slot& slot) {
  retreat<Access>(nodes_, slot);
  std::atomic<uint32_t>& started = trees_[slot.tree].started;
  if constexpr (std::is_same_v<Access, Alone>)
    started.store(started.load(std::memory_order_relaxed) - 1, std::memory_order_release);
  else
    started.fetch_sub(1, std::memory_order_release);  // who sees that none is left sees the nodes without it
}
template void Forest::take_back<Alone>(const Slot& slot);
template void Forest::take_back<Shared>(const Slot& slot);
template uint32_t Forest::start<Alone>(Tree& tree, std::span<Slot* const> slots);
template uint32_t Forest::start<Shared>(Tree& tree, std::span<Slot* const> slots);

// Of `limit` leaves as many as may go out besides those that are; they count as out from here on.
size_t Forest::take_part(size_t limit) {
  if (most_out_ == kNoLimit) return limit;
  uint64_t out = out_.load(std::memory_order_relaxed);
  size_t granted;
  do {
    granted = static_cast<size_t>(std::min<uint64_t>(limit, most_out_ - std::min(out, most_out_)));
  } while (!out_.compare_exchange_weak(out, out + granted, std::memory_order_relaxed));
  return granted;
}

// Takes a slot of a running tree that nobody owns and no leaf is out for.
bool Forest::owns(Slot& slot, Tree& tree, TreeWord running, uint32_t id, SlotState& was) {
  was = slot.gate.state();
  if (was != SlotState::kFree && was != SlotState::kReady) return false;
  if (!slot.gate.take(was)) return false;
  // The tree may have been removed meanwhile, and the slot given to another one.
  if (slot.tree == id && tree.word.load(std::memory_order_acquire) == running) return true;
  slot.gate.give(was);
  return false;
}

void Forest::hand_out(uint32_t id, Slot& slot, std::vector<Leaf>& leaves) {
  const uint32_t generation = slot.gate.next_generation();  // below 2^30: a ticket, generation << 32 | slot, is not negative
  const uint64_t index = static_cast<uint64_t>(slot.index);
  leaves.push_back({static_cast<Ticket>(uint64_t{generation} << 32 | index), id, slot.node, slot.depth});
  slot.gate.hand_out();
}

// A leaf from each of the trees, `most` in all. Each tree has one slot. The trees are worked on in turn, a stage at a time, so that
// the memory of all is on its way while that of the first is used.
size_t Forest::take_run(std::span<const uint32_t> trees, size_t most, Found& found) {
  Slot* slots[kRun];
  SlotState was[kRun];
  TreeWord running[kRun];
  for (uint32_t id : trees) prefetch(&trees_[id]);
  for (size_t i = 0; i < trees.size(); ++i) {
    Tree& tree = trees_[trees[i]];
    running[i] = tree.word.load(std::memory_order_acquire);
    slots[i] = state_of(running[i]) == TreeState::kRunning ? &slots_[tree.first_slot] : nullptr;
    if (slots[i] != nullptr) prefetch(slots[i]);
  }
  size_t owned = 0;
  for (size_t i = 0; i < trees.size(); ++i) {
    if (slots[i] != nullptr && (owned == most || !owns(*slots[i], trees_[trees[i]], running[i], trees[i], was[i]))) slots[i] = nullptr;
    if (slots[i] == nullptr) continue;
    ++owned;
    if (was[i] == SlotState::kFree) slots[i]->node = trees_[trees[i]].root;
    prefetch(&nodes_.stats[slots[i]->node]);
    prefetch(&nodes_.links[slots[i]->node]);
  }
  for (size_t i = 0; i < trees.size(); ++i) {
    if (slots[i] == nullptr) continue;
    const auto [first, count] = nodes_.children(slots[i]->node);
    nodes_.prefetch_family(first, count);
  }
  size_t taken = 0;
  for (size_t i = 0; i < trees.size(); ++i) {
    if (slots[i] == nullptr) continue;
    Tree& tree = trees_[trees[i]];
    Slot& slot = *slots[i];
    bool has_rollout = was[i] == SlotState::kReady, is_out = false;
    if (has_rollout && tree.stopped.load(std::memory_order_acquire)) {
      take_back<Alone>(slot);
      has_rollout = false;
    }
    while (!is_out && (has_rollout || start<Alone>(tree, {&slots[i], 1}) != 0)) {
      const Arrival arrival = walk<Alone>(nodes_, rules_, log_, slot);
      has_rollout = arrival != Arrival::kEnded;
      is_out = arrival == Arrival::kLeaf;
      if (arrival == Arrival::kWait) break;
      if (!has_rollout) Alone::add(tree.ended, 1u);
    }
    if (is_out) {
      hand_out(trees[i], slot, found.leaves);
      ++taken;
      continue;
    }
    // While the slot is owned nobody else starts a rollout: a stop that comes now cannot end the tree with one on its way.
    if (is_finished(tree, running[i])) found.finished.push_back(trees[i]);
    slot.gate.give(has_rollout ? SlotState::kReady : SlotState::kFree);
  }
  return taken;
}

// What becomes of a slot after its walk.
void Forest::arrived(Arrival arrival, uint32_t id, Slot& slot, Found& found, size_t& taken) {
  if (arrival == Arrival::kLeaf) {
    hand_out(id, slot, found.leaves);
    ++taken;
  } else if (arrival == Arrival::kWait) {
    slot.gate.give(SlotState::kReady);
  } else {
    trees_[id].ended.fetch_add(1, std::memory_order_release);  // who sees the last one end sees what it backed up
    found.idle.push_back(&slot);
  }
}

// The number of this thread among those that select from this forest, from 0.
uint32_t Forest::number_of_thread() {
  thread_local std::unordered_map<uint64_t, uint32_t> numbers;  // by forest
  const auto known = numbers.find(number_);
  if (known != numbers.end()) return known->second;
  if (numbers.size() >= kMostKnown) numbers.clear();  // most of these forests are no more
  return numbers[number_] = threads_.fetch_add(1, std::memory_order_relaxed);
}

// Up to `most` leaves of a tree: of rollouts under way first, then of new ones, which walk down together.
size_t Forest::take_several(uint32_t id, TreeWord running, size_t most, Found& found) {
  Tree& tree = trees_[id];
  size_t taken = 0;
  found.idle.clear();
  // Threads do not meet at each slot: each begins as far as may be from where the others do. 2^32 over the golden ratio.
  uint32_t at_slot = static_cast<uint32_t>((uint64_t{found.thread * 0x9E3779B9u} * slots_per_tree_) >> 32);
  for (uint32_t i = 0; taken < most && (i < slots_per_tree_ || !found.idle.empty());) {
    for (; i < slots_per_tree_ && taken + found.idle.size() < most; ++i) {
      Slot& slot = slots_[tree.first_slot + at_slot];
      if (++at_slot == slots_per_tree_) at_slot = 0;
      SlotState was;
      if (!owns(slot, tree, running, id, was)) continue;
      if (was == SlotState::kReady && !tree.stopped.load(std::memory_order_acquire)) {
        arrived(walk<Shared>(nodes_, rules_, log_, slot), id, slot, found, taken);
        continue;
      }
      if (was == SlotState::kReady) take_back<Shared>(slot);
      found.idle.push_back(&slot);
    }
    const uint32_t started = start<Shared>(tree, found.idle);
    std::vector<Slot*>& walking = found.walkers.slots;
    walking.assign(found.idle.begin(), found.idle.begin() + started);
    for (size_t at = started; at < found.idle.size(); ++at) found.idle[at]->gate.give(SlotState::kFree);
    found.idle.clear();
    if (started == 0) continue;
    walk_together(nodes_, rules_, log_, found.walkers);
    for (size_t at = 0; at < walking.size(); ++at) arrived(found.walkers.arrivals[at], id, *walking[at], found, taken);
  }
  for (Slot* slot : found.idle) slot->gate.give(SlotState::kFree);  // their turn comes
  if (taken == 0 && is_finished(tree, running)) found.finished.push_back(id);
  return taken;
}

// Up to `share` leaves of each of the trees, `most` in all.
size_t Forest::take_from(std::span<const uint32_t> trees, size_t share, size_t most, Found& found) {
  if (slots_per_tree_ == 1) return take_run(trees, most, found);
  size_t taken = 0;
  for (size_t i = 0; i < trees.size() && taken < most; ++i) {
    const TreeWord running = trees_[trees[i]].word.load(std::memory_order_acquire);
    if (state_of(running) == TreeState::kRunning) taken += take_several(trees[i], running, std::min(share, most - taken), found);
  }
  return taken;
}

bool Forest::is_finished(Tree& tree, TreeWord running) {
  const uint32_t ended = tree.ended.load(std::memory_order_acquire);  // before `started`, which it never exceeds
  if (tree.stopped.load() ? ended != tree.started.load() : ended < tree.target) return false;
  return tree.word.compare_exchange_strong(running, with_state(running, TreeState::kFinished), std::memory_order_acq_rel);
}

// The home whose trees this thread looks at first: its own, but for one that is two rounds behind it. One other home is looked at
// each time, so that one that no thread comes to any more is found.
uint32_t Forest::first_home(uint32_t homes, uint32_t count, Found& found) {
  if (homes == 1) return 0;
  const uint32_t own = found.thread % homes, other = (own + 1 + found.passes++ % (homes - 1)) % homes;
  const auto looked_at = [&](uint32_t home) { return cursors_[home].looked_at.load(std::memory_order_relaxed); };
  return looked_at(other) + 2 * uint64_t{count / homes + 1} < looked_at(own) ? other : own;
}

// Once round the trees, each thread from its home on: each tree's share of `limit` leaves. Returns how many leaves there were.
size_t Forest::pass(size_t limit, unsigned threads, std::vector<Leaf>& leaves, std::vector<uint32_t>& finished) {
  const uint32_t count = tree_count();
  if (count == 0) return 0;
  const uint32_t homes = std::min({count, std::max(1u, threads_.load(std::memory_order_relaxed)), kMostHomes});
  if (homes_.load(std::memory_order_relaxed) != homes && homes_.exchange(homes, std::memory_order_relaxed) != homes)
    for (Cursor& cursor : cursors_) cursor.looked_at.store(0, std::memory_order_relaxed);  // none is behind another
  const auto begin_of = [&](uint32_t home) { return static_cast<uint32_t>(uint64_t{count} * home / homes); };
  const int64_t share = static_cast<int64_t>(std::min<size_t>(slots_per_tree_, std::max<size_t>(1, limit / count)));
  std::array<std::atomic<uint32_t>, kMostHomes> looked_at{};  // in this pass, by home
  std::atomic<int64_t> budget{static_cast<int64_t>(limit)};
  const auto work = [&](Found& found) {
    found.thread = number_of_thread();
    const uint32_t first = first_home(homes, count, found);
    for (uint32_t h = 0; h < homes; ++h) {
      const uint32_t home = (first + h) % homes, begin = begin_of(home), trees = begin_of(home + 1) - begin;
      for (int64_t left = budget.load(std::memory_order_relaxed); left > 0;) {
        // A run of trees and its part of the budget. No tree comes into it that the budget does not reach: whoever takes the
        // next run, in this select or in another one beside it, begins behind the last tree served.
        const int64_t wanted = std::min(left, share * kRun);
        if (!budget.compare_exchange_weak(left, left - wanted, std::memory_order_relaxed)) continue;
        const uint32_t reached = static_cast<uint32_t>((wanted + share - 1) / share);
        const uint32_t before = looked_at[home].fetch_add(reached, std::memory_order_relaxed);
        const uint32_t size = std::min(reached, trees - std::min(before, trees));
        int64_t mine = wanted;
        if (size != 0) {
          // Where there is one tree, all threads would wait for its cursor.
          const uint64_t at = count == 1 ? 0 : cursors_[home].looked_at.fetch_add(size, std::memory_order_relaxed);
          uint32_t run[kRun];
          for (uint32_t i = 0; i < size; ++i) run[i] = begin + static_cast<uint32_t>((at + i) % trees);
          mine -= static_cast<int64_t>(take_from({run, size}, static_cast<size_t>(share), static_cast<size_t>(mine), found));
        }
        left = budget.fetch_add(mine, std::memory_order_relaxed) + mine;
        if (size == 0) break;
      }
    }
  };
  threads = std::max(1u, std::min(threads, (count + kRun - 1) / kRun));
  thread_local std::vector<Found> kept;  // memory, from call to call
  std::vector<Found>& found = kept;      // of this thread, for its team
  if (found.size() < threads) found.resize(threads);
  for (Found& part : found) {
    part.leaves.clear();
    part.finished.clear();
  }
  if (threads == 1)
    work(found[0]);
  else
    team_.run(threads, [&](unsigned number) { work(found[number]); });
  size_t taken = 0;
  for (unsigned number = 0; number < threads; ++number) {
    const Found& part = found[number];
    finished.insert(finished.end(), part.finished.begin(), part.finished.end());
    leaves.insert(leaves.end(), part.leaves.begin(), part.leaves.end());
    taken += part.leaves.size();
  }
  return taken;
}

std::vector<Leaf> Forest::select(size_t limit, unsigned threads, std::vector<uint32_t>& finished) {
  std::vector<Leaf> leaves;
  limit = take_part(limit);
  try {
    while (leaves.size() < limit && pass(limit - leaves.size(), threads, leaves, finished) != 0) {
    }
  } catch (...) {  // memory has come to its end
    came_back(limit);
    throw;
  }
  came_back(limit - leaves.size());
  return leaves;
}

}  // namespace rstar
