// The memory of a node, one concurrency contract per field.
//
// A node is an index into three parallel chunked arrays, ordered by how often a walk touches them. The children of a node
// are one block: consecutive indices in order of creation, so that a selection scans Stats linearly.
//
//   Stats  16 bytes   value_sum f64 | visits u32 | in_flight u32            read for every sibling of every step
//   Links   8 bytes   first_child u32 | child_count u16 | state | terminal  read for the chosen child
//   Cold   32 bytes   parent, depth, score, first value, terminal value     read on backup and export
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

enum class NodeState : uint8_t {
  kUnexpanded = 0,
  kClaimed = 1,   // handed out; exactly one rollout may expand it
  kExpanded = 2,  // children are published, or it is terminal for lack of any
};

struct Stats {
  // Sum of the values of the completed visits. Added to with relaxed order: a reader pairs it with a count that may be one
  // visit older or newer, never with a torn number.
  std::atomic<double> value_sum{0.0};
  // Completed visits. Relaxed, like value_sum. Needs no ordering of its own: children are published by first_child.
  std::atomic<uint32_t> visits{0};
  // Rollouts that are below or at this node and have not been backed up or cancelled (virtual visits). Relaxed; it steers
  // the spreading of rollouts and decides nothing else. Zero when no leaf is out.
  std::atomic<uint32_t> in_flight{0};
};
static_assert(sizeof(Stats) == 16, "siblings are scanned linearly: four to a cache line");

struct Links {
  // Index of the first child, kNone before. Stored with release after the children, child_count included, are written;
  // loaded with acquire before any of them is read.
  std::atomic<Index> first_child{kNone};
  // Written once, before first_child is published.
  std::atomic<uint16_t> child_count{0};
  // Moves kUnexpanded -> kClaimed by compare-exchange (acq_rel), so one rollout wins; then to kExpanded by the winner, or
  // back to kUnexpanded when it cancels.
  std::atomic<NodeState> state{NodeState::kUnexpanded};
  // Written before the node is published by its parent, or by the winner of its claim, or (kExhausted) by any walker, always
  // the same way; never taken back. Release/acquire, as terminal_value is read after it.
  std::atomic<Terminal> terminal{Terminal::kNo};
};
static_assert(sizeof(Links) == 8, "links follow the statistics at 24 bytes a node");

struct Cold {
  // The value that was first backed up into the node; 0 before. Written by the thread whose visit was the first.
  std::atomic<double> first_value{0.0};
  // Value of a rollout that ends here. Written before `terminal`.
  double terminal_value{0.0};
  // The rest is written before the node is published and never changes.
  Index parent{kNone};
  float score{0.0f};  // the PPM's score, NaN without one
  uint16_t depth{0};  // 0 at the root
};
static_assert(sizeof(Cold) == 32, "cold fields: read on backup and export only");

}  // namespace rstar
