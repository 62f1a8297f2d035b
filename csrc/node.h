// The memory of a node, one concurrency contract per field.
//
// A node is an index into parallel chunked arrays, ordered by how often a walk touches them. The children of a node are one
// block: consecutive indices in order of creation, so that a selection scans Stats linearly. A new child is a line of Stats
// and no more; the rest is written when there is something to say.
//
//   Stats   16 bytes   value_sum f64 | visits u32 | in_flight u16, bits, terminal u8   every sibling of every step
//   Links    8 bytes   first_child u32 | child_count u16 | scored u16                         of an expanded node
//   Score    4 bytes   what the PPM said                                                      of children that were scored
//   Values  16 bytes   first f64 | terminal f64                                               of visited and terminal nodes
//
// There is no link to the parent: a rollout keeps its path (tree.h), and export goes from the root down.
//
// Who writes. A thread *owns* a rollout (a slot, see tree.h) from taking it to giving it on, both by acquire/release. Where a
// tree has one slot, owning it is owning the tree: its fields are then changed by plain relaxed loads and stores (`Alone`).
// Where it has several, by atomic read-modify-writes (`Shared`). Any thread may read at any time.
#pragma once

#include <atomic>
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
// walker, always the same; never taken back; release/acquire, as Values::terminal is read after it. Counts are relaxed.
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

// Written by the winner of the claim before Stats says expanded; says nothing before, and never changes after.
struct Links {
  std::atomic<Index> first_child;  // kNone: closed without children
  uint16_t child_count;
  uint16_t scored;  // 1: the children's scores are written; else they have none
};
static_assert(sizeof(Links) == 8, "24 bytes a node with its links");

struct Values {
  // The value that was first backed up into the node; says nothing before the first visit, and with `Alone` before the
  // second: till then it is the sum.
  std::atomic<double> first;
  // Value of a rollout that ends here. Written before the word's terminal; says nothing while that is kNo.
  double terminal;
};
static_assert(sizeof(Values) == 16);

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
  static double add(std::atomic<double>& to, double by) {
    const double before = to.load(std::memory_order_relaxed);
    to.store(before + by, std::memory_order_relaxed);
    return before;
  }
  static Word add(Stats& to, uint64_t by) { return change(to, to.bits.load(std::memory_order_relaxed) + by, std::memory_order_relaxed); }
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
  static double add(std::atomic<double>& to, double by) { return to.fetch_add(by, std::memory_order_relaxed); }
  static Word add(Stats& to, uint64_t by) { return Word(to.bits.fetch_add(by, std::memory_order_relaxed)); }
  static Word set(Stats& to, uint64_t bits, std::memory_order order = std::memory_order_release) { return Word(to.bits.fetch_or(bits, order)); }
  static Word clear(Stats& to, uint64_t bits) { return Word(to.bits.fetch_and(~bits, std::memory_order_release)); }
};

}  // namespace rstar
