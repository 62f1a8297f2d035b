#include "forest.h"

#include <algorithm>
#include <string>
#include <thread>

namespace rstar {

namespace {
constexpr uint32_t kGenerationMask = 0x7FFFFFFFu;  // a ticket is generation << 32 | slot, and not negative
}

Forest::Forest(Rules rules, LogTable log, uint32_t in_flight) : rules_(rules), log_(std::move(log)), slots_per_tree_(in_flight) {
  if (in_flight == 0 || in_flight > kChunkSize)
    throw UsageError("in_flight is " + std::to_string(in_flight) + ": give 1 to " + std::to_string(kChunkSize));
}

uint32_t Forest::add_tree(uint32_t rollouts) {
  const uint32_t id = tree_space_.allocate(1, [this](Index i) -> std::atomic<Index>& { return trees_[i].next_free; });
  trees_.ensure(id);
  Tree& tree = trees_[id];
  tree.first_slot =
      slot_space_.allocate(slots_per_tree_, [this](Index i) -> std::atomic<Index>& { return slots_[i].next_free; });
  slots_.ensure(tree.first_slot + IndexSpace::rounded(slots_per_tree_) - 1);
  for (uint32_t i = 0; i < slots_per_tree_; ++i) {
    Slot& slot = slots_[tree.first_slot + i];
    slot.tree = id;
    slot.state.store(SlotState::kFree, std::memory_order_relaxed);
  }
  tree.root = nodes_.allocate(1);
  tree.target = rollouts;
  tree.started.store(0, std::memory_order_relaxed);
  tree.ended.store(0, std::memory_order_relaxed);
  tree.state.store(TreeState::kRunning, std::memory_order_release);
  return id;
}

void Forest::remove(uint32_t id) {
  Tree& tree = const_cast<Tree&>(existing(id));
  for (uint32_t i = 0; i < slots_per_tree_; ++i)
    if (slots_[tree.first_slot + i].state.load(std::memory_order_acquire) == SlotState::kOut)
      throw UsageError("tree " + std::to_string(id) + " has a leaf out: expand or cancel it before removing the tree");
  TreeState state = tree.state.load();
  while (!tree.state.compare_exchange_weak(state, TreeState::kRemoving))
    if (state != TreeState::kRunning && state != TreeState::kFinished) existing(id);  // removed meanwhile: says so
  while (tree.visitors.load() != 0) std::this_thread::yield();
  std::vector<std::pair<Index, uint32_t>> blocks{{tree.root, 1}};
  breadth_first(tree.root, [&](Index node, Index) {
    const uint32_t count = nodes_.links[node].child_count.load(std::memory_order_relaxed);
    if (count != 0) blocks.emplace_back(nodes_.links[node].first_child.load(std::memory_order_relaxed), count);
  });
  for (auto [first, count] : blocks) nodes_.release(first, count);
  slot_space_.release(tree.first_slot, slots_per_tree_, [this](Index i) -> std::atomic<Index>& { return slots_[i].next_free; });
  tree.state.store(TreeState::kUnused, std::memory_order_release);
  tree_space_.release(id, 1, [this](Index i) -> std::atomic<Index>& { return trees_[i].next_free; });
}

bool Forest::start(Tree& tree, Slot& slot) {
  uint32_t started = tree.started.load(std::memory_order_relaxed);
  do {
    if (started >= tree.target) return false;
  } while (!tree.started.compare_exchange_weak(started, started + 1, std::memory_order_relaxed));
  slot.node = tree.root;
  slot.expansions = 0;
  nodes_.stats[tree.root].in_flight.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// Walks the tree's waiting rollouts, then new ones, until one stands on a leaf.
bool Forest::next_leaf(uint32_t id, Leaf& leaf) {
  Tree& tree = trees_[id];
  for (uint32_t i = 0; i < slots_per_tree_; ++i) {
    Slot& slot = slots_[tree.first_slot + i];
    SlotState state = slot.state.load(std::memory_order_relaxed);
    if (state != SlotState::kFree && state != SlotState::kReady) continue;
    if (!slot.state.compare_exchange_strong(state, SlotState::kWalking, std::memory_order_acq_rel)) continue;
    bool has_rollout = state == SlotState::kReady;
    while (has_rollout || start(tree, slot)) {
      has_rollout = true;
      const Arrival arrival = walk(nodes_, rules_, log_, slot);
      if (arrival == Arrival::kEnded) {
        tree.ended.fetch_add(1, std::memory_order_relaxed);
        has_rollout = false;
        continue;
      }
      if (arrival == Arrival::kWait) break;
      const uint64_t generation = (slot.generation.fetch_add(1, std::memory_order_relaxed) + 1) & kGenerationMask;
      leaf = {static_cast<Ticket>(generation << 32 | (tree.first_slot + i)), id, slot.node, nodes_.cold[slot.node].depth};
      slot.state.store(SlotState::kOut, std::memory_order_release);
      return true;
    }
    slot.state.store(has_rollout ? SlotState::kReady : SlotState::kFree, std::memory_order_release);
  }
  return false;
}

bool Forest::is_finished(Tree& tree) {
  if (tree.ended.load(std::memory_order_acquire) < tree.target) return false;
  TreeState running = TreeState::kRunning;
  return tree.state.compare_exchange_strong(running, TreeState::kFinished, std::memory_order_acq_rel);
}

// At most one leaf from each tree, from the cursor on, `limit` in all.
void Forest::select_pass(size_t limit, unsigned threads, std::vector<Leaf>& leaves) {
  const uint32_t count = tree_count();
  if (count == 0) return;
  const uint32_t begin = cursor_.load(std::memory_order_relaxed) % count;
  std::atomic<uint32_t> position{0};
  std::atomic<int64_t> budget{static_cast<int64_t>(limit)};
  constexpr uint32_t kRun = 16;  // trees a thread takes at a time
  const auto work = [&](std::vector<std::pair<uint32_t, Leaf>>& found) {
    while (true) {
      const uint32_t from = position.fetch_add(kRun, std::memory_order_relaxed);
      if (from >= count) return;
      for (uint32_t at = from; at < std::min(from + kRun, count); ++at) {
        const uint32_t id = (begin + at) % count;
        Tree& tree = trees_[id];
        tree.visitors.fetch_add(1);
        if (tree.state.load() == TreeState::kRunning) {
          Leaf leaf;
          if (budget.fetch_sub(1, std::memory_order_relaxed) > 0 && next_leaf(id, leaf))
            found.emplace_back(at, leaf);
          else
            budget.fetch_add(1, std::memory_order_relaxed);
        }
        tree.visitors.fetch_sub(1);
        if (budget.load(std::memory_order_relaxed) <= 0) return;
      }
    }
  };
  std::vector<std::vector<std::pair<uint32_t, Leaf>>> found(std::max(1u, std::min(threads, (count + kRun - 1) / kRun)));
  {
    std::vector<std::jthread> team;
    for (size_t t = 1; t < found.size(); ++t) team.emplace_back(work, std::ref(found[t]));
    work(found[0]);
  }
  std::vector<std::pair<uint32_t, Leaf>> all;
  for (auto& part : found) all.insert(all.end(), part.begin(), part.end());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [at, leaf] : all) leaves.push_back(leaf);
  if (!all.empty()) cursor_.store((begin + all.back().first + 1) % count, std::memory_order_relaxed);
}

std::vector<Leaf> Forest::select(size_t limit, unsigned threads, std::vector<uint32_t>& finished) {
  std::vector<Leaf> leaves;
  while (leaves.size() < limit) {
    const size_t before = leaves.size();
    select_pass(limit - before, threads, leaves);
    if (leaves.size() == before) break;
  }
  for (uint32_t id = 0, count = tree_count(); id < count; ++id)
    if (is_finished(trees_[id])) finished.push_back(id);
  return leaves;
}

// The slot of a ticket, taken out of kOut: from here on this ticket is used up.
Slot& Forest::take(Ticket ticket) {
  const uint32_t index = static_cast<uint32_t>(ticket);
  if (ticket < 0 || index >= slots_.available())
    throw UsageError("ticket " + std::to_string(ticket) + " was never handed out by this forest");
  Slot& slot = slots_[index];
  SlotState out = SlotState::kOut;
  if ((slot.generation.load(std::memory_order_relaxed) & kGenerationMask) != static_cast<uint32_t>(ticket >> 32) ||
      !slot.state.compare_exchange_strong(out, SlotState::kWalking, std::memory_order_acq_rel))
    throw UsageError("ticket " + std::to_string(ticket) + " is used up: each leaf is expanded, closed or cancelled once");
  return slot;
}

std::vector<Index> Forest::expand(std::span<const Ticket> tickets, std::span<const uint32_t> counts,
                                  std::span<const NewChild> children) {
  size_t total = 0;
  for (uint32_t count : counts) {
    if (count == 0 || count > kChunkSize)
      throw UsageError("a leaf got " + std::to_string(count) + " children: give 1 to " + std::to_string(kChunkSize));
    total += count;
  }
  if (total != children.size())
    throw UsageError("the counts add up to " + std::to_string(total) + " children, but " + std::to_string(children.size()) + " were given");
  std::vector<Index> firsts;
  firsts.reserve(tickets.size());
  std::vector<Slot*> slots;
  slots.reserve(tickets.size());
  try {
    for (Ticket ticket : tickets) slots.push_back(&take(ticket));
  } catch (...) {  // all or nothing: a wrong ticket must not use up the others
    for (Slot* slot : slots) slot->state.store(SlotState::kOut, std::memory_order_release);
    throw;
  }
  size_t at = 0;
  for (size_t b = 0; b < tickets.size(); ++b) {
    Slot& slot = *slots[b];
    firsts.push_back(rstar::expand(nodes_, rules_, slot.node, children.data() + at, counts[b]));
    at += counts[b];
    slot.state.store(SlotState::kReady, std::memory_order_release);
  }
  return firsts;
}

void Forest::close(Ticket ticket, Terminal terminal, double value) {
  Slot& slot = take(ticket);
  rstar::close(nodes_, rules_, slot.node, terminal, value);
  slot.state.store(SlotState::kReady, std::memory_order_release);
}

void Forest::cancel(Ticket ticket) {
  Slot& slot = take(ticket);
  nodes_.links[slot.node].state.store(NodeState::kUnexpanded, std::memory_order_release);
  retreat(nodes_, slot.node);
  trees_[slot.tree].started.fetch_sub(1, std::memory_order_relaxed);
  slot.state.store(SlotState::kFree, std::memory_order_release);
}

const Tree& Forest::existing(uint32_t id) const {
  if (id < tree_count()) {
    const TreeState state = trees_[id].state.load(std::memory_order_acquire);
    if (state == TreeState::kRunning || state == TreeState::kFinished) return trees_[id];
  }
  throw UsageError("there is no tree " + std::to_string(id) + " in this forest: it was never added, or was removed");
}

template <typename Visit>
void Forest::breadth_first(Index root, Visit&& visit) const {
  std::vector<Index> queue{root};
  for (size_t at = 0; at < queue.size(); ++at) {
    const Index node = queue[at];
    const Index first = nodes_.links[node].first_child.load(std::memory_order_acquire);
    const uint32_t count = first == kNone ? 0 : nodes_.links[node].child_count.load(std::memory_order_relaxed);
    const Index position = static_cast<Index>(queue.size());  // where the children will stand
    for (uint32_t i = 0; i < count; ++i) queue.push_back(first + i);
    visit(node, position);
  }
}

Columns Forest::columns(uint32_t id) const {
  Columns columns;
  std::vector<int32_t> parents{-1};
  breadth_first(existing(id).root, [&](Index node, Index position) {
    const Stats& stats = nodes_.stats[node];
    const Links& links = nodes_.links[node];
    const Cold& cold = nodes_.cold[node];
    const uint32_t count = links.child_count.load(std::memory_order_relaxed);
    const int32_t self = static_cast<int32_t>(columns.node.size());
    parents.insert(parents.end(), count, self);
    columns.node.push_back(node);
    columns.first_child.push_back(count == 0 ? -1 : static_cast<int32_t>(position));
    columns.child_count.push_back(static_cast<int32_t>(count));
    columns.depth.push_back(cold.depth);
    columns.visits.push_back(stats.visits.load(std::memory_order_relaxed));
    columns.value_sum.push_back(stats.value_sum.load(std::memory_order_relaxed));
    columns.value.push_back(cold.first_value.load(std::memory_order_relaxed));
    columns.score.push_back(cold.score);
    columns.terminal.push_back(static_cast<uint8_t>(links.terminal.load(std::memory_order_acquire)));
  });
  columns.parent = std::move(parents);
  return columns;
}

uint64_t Forest::in_flight(uint32_t id) const {
  uint64_t sum = 0;
  breadth_first(existing(id).root,
                [&](Index node, Index) { sum += nodes_.stats[node].in_flight.load(std::memory_order_relaxed); });
  return sum;
}

uint32_t Forest::rollouts_ended(uint32_t id) const { return existing(id).ended.load(std::memory_order_relaxed); }

uint32_t Forest::tree_count() const { return std::min(tree_space_.high_water(), trees_.available()); }

Index Forest::root(uint32_t id) const { return existing(id).root; }

}  // namespace rstar
