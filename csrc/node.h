// The memory of a node, one concurrency contract per field.
//
// A node is an index into parallel chunked arrays, ordered by how often a walk touches them. The children of a node are one
// block: consecutive indices in order of creation, so that a selection scans Stats linearly. A new child is a line of Stats
// and no more; the rest is written when there is something to say.
//
//   Stats   16 bytes   value_sum f64 | visits u32 | in_flight u16, bits, terminal u8   every sibling of every step
//   Links    8 bytes   first_child u32 | child_count u16 | scored u16, or a value             of expanded and terminal nodes
//   Score    4 bytes   what the PPM said                                                      of children that were scored
//   Block   16 bytes   next u32 | count u32 | value                                           one for each block
//
// A block begins at a cache line of Stats: its size is a multiple of four nodes, so that there is room for one Block in four.
// There is no link to the parent: a rollout keeps its path (tree.h), and export goes from the root down.
//
// Who writes. A thread *owns* a rollout (a slot, see tree.h) from taking it to giving it on, both by acquire/release. Where a
// tree has one slot, owning it is owning the tree: its fields are then changed by plain relaxed loads and stores (`Alone`).
// Where it has several, by atomic read-modify-writes (`Shared`). Any thread may read at any time.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "arena.h"

namespace rstar {

// Why a node has no successors. The numbers are stored in files: types.Terminal in Python is the same list.
enum class Terminal : uint8_t {
  kNo = 0,
  kAnswer = 1,
  kTooManyErrors = 2,
  kTooDeep = 3,
  kNoCandidates = 4,
  kExhausted = 5,
};
inline constexpr uint8_t kTerminalCount = 6;

// Sums and counts of a node. All but the sum lie in one word, so that a backup is two additions:
//
//   bits 0-31 visits | 32-47 in_flight | 48 claimed | 49 expanded | 56-63 terminal
//
// visits: completed ones. in_flight: rollouts that are below or at this node and have not been backed up or cancelled (virtual
// visits); it steers the spreading of rollouts and decides nothing else; zero when no leaf is out; a tree has at most 2^14
// rollouts out. claimed: handed out; whoever set the bit may expand the node, or gives it back by clearing it. expanded: set
// once, by the winner of the claim, with release order after Links and the children are written, and read with acquire before
// they are. terminal: written before the node is published by its parent, or by the winner of its claim, or (kExhausted) by any
// walker, always the same; never taken back; release/acquire, as its value is read after it. Counts are relaxed.
class Word {
 public:
  static constexpr uint64_t kVisit = 1;
  static constexpr uint64_t kVirtualVisit = uint64_t{1} << 32;
  static constexpr uint64_t kClaimed = uint64_t{1} << 48;
  static constexpr uint64_t kExpanded = uint64_t{1} << 49;
  static constexpr uint64_t of(Terminal terminal) { return static_cast<uint64_t>(terminal) << 56; }

  explicit Word(uint64_t bits) : bits_(bits) {}
  uint32_t visits() const { return static_cast<uint32_t>(bits_); }
  uint32_t in_flight() const { return static_cast<uint32_t>(bits_ >> 32) & 0xFFFFu; }
  bool is_claimed() const { return (bits_ & kClaimed) != 0; }
  bool is_expanded() const { return (bits_ & kExpanded) != 0; }
  Terminal terminal() const { return static_cast<Terminal>(bits_ >> 56); }

 private:
  uint64_t bits_;
};

struct Stats {
  // Sum of the values of the completed visits. Relaxed: a reader pairs it with a count that may be one visit older or newer,
  // never with a torn number.
  std::atomic<double> value_sum{0.0};
  std::atomic<uint64_t> bits{0};

  double sum() const { return value_sum.load(std::memory_order_relaxed); }
  Word word(std::memory_order order = std::memory_order_relaxed) const { return Word(bits.load(order)); }
};
static_assert(sizeof(Stats) == 16, "siblings are scanned linearly: four to a cache line");

// Of an expanded node its family: written by the winner of the claim before Stats says expanded, never changed after. Of another
// terminal the value of rollouts that end there: written before Stats says terminal. Of a leaf with two visits or more the value
// that was first backed up into it: written by whoever holds the claim, read by others while nobody does. Else it says nothing.
// Relaxed: the words of Stats and the claim order it.
class Links {
 public:
  struct Family {
    Index first;
    uint32_t count;  // 0: of a leaf that was closed after a visit; the sum of `first` is the value of rollouts that end there
    bool scored;  // the children's scores are written; else they have none
  };
  Family family() const {
    const uint64_t bits = bits_.load(std::memory_order_relaxed);
    return {static_cast<Index>(bits), static_cast<uint32_t>(bits >> 32) & 0xFFFFu, bits >> 48 != 0};
  }
  void set(const Family& family) {
    bits_.store(family.first | uint64_t{family.count} << 32 | uint64_t{family.scored} << 48, std::memory_order_relaxed);
  }
  double value(std::memory_order order = std::memory_order_relaxed) const { return std::bit_cast<double>(bits_.load(order)); }
  void set(double value) { bits_.store(std::bit_cast<uint64_t>(value), std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> bits_;
};
static_assert(sizeof(Links) == 8, "24 bytes a node with its links");

// Of a block in use: where its tree's list of blocks goes on, so that a tree is freed without a walk over its nodes; how many
// nodes it has; and the value that was first backed up into the parent, 0 before. Written by whoever makes the block, before
// it is published; the value by whoever first visits the expanded parent.
//
// Free blocks of one size lie in stacks. The Block of a stack's first block says where the next stack is and how many other
// blocks are in this one; the further Blocks that a block has room for name those, four each.
struct Block {
  static constexpr uint32_t kNodes = 4;

  std::atomic<Index> next;
  uint32_t count;
  std::atomic<double> parent_value;

  using Names = std::array<Index, 4>;
  void set(const Names& names) {
    next.store(names[0], std::memory_order_relaxed);
    count = names[1];
    parent_value.store(std::bit_cast<double>(names[2] | uint64_t{names[3]} << 32), std::memory_order_relaxed);
  }
  Names names() const {
    const auto upper = std::bit_cast<uint64_t>(parent_value.load(std::memory_order_relaxed));
    return {next.load(std::memory_order_relaxed), count, static_cast<Index>(upper), static_cast<Index>(upper >> 32)};
  }
};
static_assert(sizeof(Block) == 16);

// A number read and written with relaxed order.
template <typename T>
class Relaxed {
 public:
  Relaxed(T value) : value_(value) {}
  operator T() const { return value_.load(std::memory_order_relaxed); }
  Relaxed& operator=(T value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }

 private:
  std::atomic<T> value_;
};

// How fields are changed: by one thread at a time, or by many. Each returns what was there before.
struct Alone {
  template <typename T>
  static T add(std::atomic<T>& to, T by) {
    const T before = to.load(std::memory_order_relaxed);
    to.store(before + by, std::memory_order_relaxed);
    return before;
  }
  static Word add(Stats& to, uint64_t by, std::memory_order order = std::memory_order_relaxed) {
    return change(to, to.bits.load(std::memory_order_relaxed) + by, order);
  }
  static Word set(Stats& to, uint64_t bits, std::memory_order order = std::memory_order_release) {
    return change(to, to.bits.load(std::memory_order_relaxed) | bits, order == std::memory_order_acq_rel ? std::memory_order_release : order);
  }
  static Word clear(Stats& to, uint64_t bits) { return change(to, to.bits.load(std::memory_order_relaxed) & ~bits, std::memory_order_release); }

 private:
  static Word change(Stats& to, uint64_t bits, std::memory_order order) {
    const Word before(to.bits.load(std::memory_order_relaxed));
    to.bits.store(bits, order);
    return before;
  }
};
struct Shared {
  template <typename T>
  static T add(std::atomic<T>& to, T by) {
    return to.fetch_add(by, std::memory_order_relaxed);
  }
  static Word add(Stats& to, uint64_t by, std::memory_order order = std::memory_order_relaxed) { return Word(to.bits.fetch_add(by, order)); }
  static Word set(Stats& to, uint64_t bits, std::memory_order order = std::memory_order_release) { return Word(to.bits.fetch_or(bits, order)); }
  static Word clear(Stats& to, uint64_t bits) { return Word(to.bits.fetch_and(~bits, std::memory_order_release)); }
};

}  // namespace rstar
