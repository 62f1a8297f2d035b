// One search tree: walking down, expanding, backing up, cancelling.
//
// A *rollout* starts at the root, walks down by UCT and expands every unexpanded node it stands on, until it stands on a
// terminal; then the terminal's value is added to every node from there to the root. Between the hand-out of a leaf and its
// expansion the rollout waits in its slot, holding one virtual visit on each node of its path.
//
//            start                 leaf claimed              expand()
//   kFree ----------> kWalking ------------------> kOut ---------------> kReady --> kWalking ...
//     ^                  |                           | cancel()           | ^
//     |  terminal        | leaf claimed by another   v   or backup_leaf() | |   or close()
//     +------------------+--------> kReady         kFree                  | +-- walked again by the next select
//     ^                                                                   |
//     +-------------------------------------------------------------------+  leave(), or the next select of a stopped tree
//
// Who chooses leaves himself has a rollout begin on a path that he names (Forest::claim): kFree -> kOut.
//
// The reference's behaviour differs in what a rollout does: see Rules::reference.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "node.h"
#include "notes.h"
#include "selection.h"

namespace rstar {

struct Rules {
  Uct uct;
  // A scored step starts with one visit of its PPM score, a terminal with one of its terminal value. On itself only.
  bool own_visits = false;
  // As microsoft/rStar: terminal children are never entered, a node all of whose children are terminal becomes terminal,
  // a rollout ends after max_expansions steps below the node it started on and backs nothing up; instead every new
  // terminal with an answer is backed up when it is created.
  bool reference = false;
  uint32_t max_expansions = 0;
};

// All nodes of a forest: parallel arrays under one index space.
struct Nodes {
  static constexpr uint32_t kChunkBits = 18;  // a chunk of the smallest array that every node uses is one huge page
  static constexpr uint32_t kMostChildren = 1u << 14;
  using Space = IndexSpace<kChunkBits, Block::kNodes>;

  Space space;
  Chunked<Stats, kChunkBits, true> stats{0};
  Chunked<Links, kChunkBits, true> links;
  Chunked<float, kChunkBits, true> score;
  Chunked<Block, kChunkBits - 2, true> blocks;  // by first node / Block::kNodes
  Chunked<Index, kChunkBits - 2, true> note;    // as `blocks`: where the block's notes are, kNone without; not there without `notes`
  std::optional<Notes> notes;

  explicit Nodes(bool with_notes = false) {
    if (with_notes) notes.emplace();
  }

  // Children of a node: the first one and how many; {kNone, 0} where it has none.
  std::pair<Index, uint32_t> children(Index node) const {
    if (!stats[node].word(std::memory_order_acquire).is_expanded()) return {kNone, 0};
    const Links::Family family = links[node].family();
    return {family.count == 0 ? kNone : family.first, family.count};
  }
  Index& note_of(Index first) { return note[first / Block::kNodes]; }
  Index note_of(Index first) const { return note[first / Block::kNodes]; }
  Block& block(Index first) { return blocks[first / Block::kNodes]; }
  const Block& block(Index first) const { return blocks[first / Block::kNodes]; }
  // Asks for the statistics of a family, as far as a vectorized selection reads them.
  void prefetch_family(Index first, uint32_t count) const {
    if (first == kNone) return;
    const Stats* const family = &stats[first];
    for (uint32_t i = 0; i < std::min(count, 64u); i += 4) prefetch(family + i);
  }
  // Address space that nodes have taken, their notes apart; what was never written costs no memory.
  uint64_t reserved_bytes() const {
    return uint64_t{stats.available()} * (sizeof(Stats) + sizeof(Links) + sizeof(float) + sizeof(Block) / Block::kNodes);
  }
};

// Blocks at hand: taken from the free ones of all, and given back to them, a stack at a time. For one thread, and for as long
// as a call lasts: what is left goes back at the end.
class Stock {
 public:
  explicit Stock(Nodes& nodes) : nodes_(nodes) {}
  Stock(const Stock&) = delete;
  Stock& operator=(const Stock&) = delete;
  ~Stock();

  Index take(uint32_t count);              // the first node of a block; nothing but memory
  void put(Index first, uint32_t count);   // a block that nobody will look at any more
  void put_list(Index first);              // all blocks of a tree's list

 private:
  void push_stack(uint32_t size);

  Nodes& nodes_;
  std::array<std::vector<Index>, Nodes::Space::kClasses> blocks_;
};

enum class SlotState : uint8_t { kFree, kWalking, kOut, kReady };

// The nodes from the root to where a rollout stands.
class Path {
 public:
  // Puts `node` at `depth`, which is at most one more than was put before.
  void put(uint32_t depth, Index node) {
    if (depth == capacity_) grow();
    nodes_[depth] = node;
  }
  Index operator[](uint32_t depth) const { return nodes_[depth]; }
  void free();

 private:
  void grow();

  Index* nodes_{nullptr};
  uint32_t capacity_{0};
};

// A slot's state and, above it in the same word, how often the slot was handed out: a ticket used twice is told from the slot's
// next one by the very exchange that takes the slot.
class Gate {
 public:
  static constexpr uint32_t kGenerations = 1u << 30;

  SlotState state(std::memory_order order = std::memory_order_relaxed) const { return static_cast<SlotState>(word_.load(order) & 3u); }
  // Takes a slot that is in the state `was`; false where it is in another, or was taken meanwhile.
  bool take(SlotState was) {
    uint32_t word = word_.load(std::memory_order_relaxed);
    return (word & 3u) == static_cast<uint32_t>(was) && exchange(word);
  }
  // Takes a slot that is out for the `generation`th time.
  bool take_out(uint64_t generation) { return generation < kGenerations && exchange(word(generation, SlotState::kOut)); }
  // Takes a slot that has come back from being out for the `generation`th time, and waits.
  bool take_ready(uint64_t generation) { return generation < kGenerations && exchange(word(generation, SlotState::kReady)); }
  bool is_out(uint64_t generation) const {
    return generation < kGenerations && word_.load(std::memory_order_acquire) == word(generation, SlotState::kOut);
  }
  // The rest is for the owner, who gives the slot on by it.
  void give(SlotState state) { word_.store((word_.load(std::memory_order_relaxed) & ~3u) | static_cast<uint32_t>(state), std::memory_order_release); }
  uint32_t next_generation() const { return ((word_.load(std::memory_order_relaxed) >> 2) + 1) % kGenerations; }
  void hand_out() { word_.store(word(next_generation(), SlotState::kOut), std::memory_order_release); }

 private:
  static uint32_t word(uint64_t generation, SlotState state) { return static_cast<uint32_t>(generation) << 2 | static_cast<uint32_t>(state); }
  bool exchange(uint32_t word) {
    const uint32_t walking = (word & ~3u) | static_cast<uint32_t>(SlotState::kWalking);
    return word_.compare_exchange_strong(word, walking, std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  std::atomic<uint32_t> word_{0};
};

// A rollout in flight.
struct alignas(64) Slot {
  // Who may touch the other fields: the thread that took the slot, until it gives it on.
  Gate gate;
  Index node{kNone};
  uint32_t depth{0};  // of node; 0 at the root
  uint32_t expansions{0};
  Path path;
  uint32_t tree{0};
  Index index{kNone};  // its own
  std::atomic<Index> next_free{kNone};  // while the slot belongs to no tree

  void stand(uint32_t at_depth, Index at_node) {
    depth = at_depth;
    node = at_node;
    path.put(depth, node);
  }
};

enum class Arrival { kLeaf, kEnded, kWait };

// Walks the slot's rollout from its node to the next leaf (claimed for it), or to its end (backed up), or to a leaf that
// another rollout holds.
template <typename Access>
Arrival walk(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot);

// Adds a visit of `value` to every node of the slot's path; where the rollout has landed, its virtual visits end.
template <typename Access>
void backup(Nodes& nodes, const Slot& slot, double value, bool landed);


// Ends the rollout of the slot at the leaf that it holds, which stays a leaf.
template <typename Access>
void backup_leaf(Nodes& nodes, const Slot& slot, double value);

// As backup_leaf for slots of one tree, one after another, but that a node on several paths next to each other is updated once
// for all of them.
void backup_leaves(Nodes& nodes, std::span<Slot* const> slots, const double* values);

// Ends one virtual visit on every node of the slot's path.
template <typename Access>
void retreat(Nodes& nodes, const Slot& slot);

// Memory that walk_together uses, kept from call to call.
struct Walkers {
  // Slots, side by side, that stand on one node.
  struct Group {
    uint32_t begin, end;
  };
  std::vector<Slot*> slots;       // in: all on the root of one tree
  std::vector<Arrival> arrivals;  // out: of each of them; both are reordered
  std::vector<Group> groups, next;
  std::vector<std::pair<Index, uint32_t>> families;
  std::vector<uint32_t> chosen, begins;
  std::vector<Slot*> moved;
};

// Walks the rollouts of several slots, all standing on the root, to where each one stops.
//
// The same as walking them one after another, but that no visit is backed up before all have chosen; each node on the way is
// read once and updated once for all of them.
void walk_together(Nodes& nodes, const Rules& rules, const LogTable& log, Walkers& walkers);

struct NewChild {
  double value;  // PPM score, or of a terminal its value; NaN without one
  float score;   // what the PPM said; NaN without
  Terminal terminal;
};

// Gives the claimed leaf on which the slot stands its children, in the block that begins at `first`, and publishes them; the
// block goes to the front of the tree's list `blocks`. `note`: where the children's notes are; kNone without.
template <typename Access>
void expand(Nodes& nodes, const Rules& rules, const Slot& slot, const NewChild* children, uint32_t count, Index first, Index note,
            std::atomic<Index>& blocks);

// Makes the claimed leaf terminal. `first`: a block of one node where the leaf was visited, which then holds what Links has no
// room for; kNone where it was not.
template <typename Access>
void close(Nodes& nodes, const Rules& rules, const Slot& slot, Terminal terminal, double value, Index first, std::atomic<Index>& blocks);

}  // namespace rstar
