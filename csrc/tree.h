// One search tree: walking down, expanding, backing up, cancelling.
//
// A *rollout* starts at the root, walks down by UCT and expands every unexpanded node it stands on, until it stands on a
// terminal; then the terminal's value is added to every node from there to the root. Between the hand-out of a leaf and its
// expansion the rollout waits in its slot, holding one virtual visit on each node of its path.
//
//            start                 leaf claimed              expand()
//   kFree ----------> kWalking ------------------> kOut ---------------> kReady --> kWalking ...
//     ^                  |                           | cancel()             ^
//     |  terminal        | leaf claimed by another   v                      |
//     +------------------+--------> kReady         kFree                    +-- walked again by the next select
//
// The reference's behaviour differs in what a rollout does: see Rules::reference.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

#include "node.h"
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

// All nodes of a forest: three arrays under one index space.
struct Nodes {
  IndexSpace space;
  Chunked<Stats> stats;
  Chunked<Links> links;
  Chunked<Cold> cold;

  Index allocate(uint32_t count);           // a block of fresh nodes
  void release(Index first, uint32_t count);  // gives a block back; nobody may hold its indices any more
};

enum class SlotState : uint8_t { kFree, kWalking, kOut, kReady };

// A rollout in flight.
struct Slot {
  // Who may touch the other fields: the thread that moved the state to kWalking, or that took it out of kOut, both by
  // compare-exchange (acq_rel). Given on by a release store.
  std::atomic<SlotState> state{SlotState::kFree};
  Index node{kNone};
  uint32_t expansions{0};
  uint32_t tree{0};
  // Counts hand-outs, so that a ticket used twice is told from the slot's next one. Atomic because a wrong ticket may look
  // at it while its owner counts.
  std::atomic<uint32_t> generation{0};
  std::atomic<Index> next_free{kNone};  // while the slot belongs to no tree
};

enum class Arrival { kLeaf, kEnded, kWait };

// Walks the slot's rollout from its node to the next leaf (claimed for it), or to its end (backed up), or to a leaf that
// another rollout holds.
Arrival walk(Nodes& nodes, const Rules& rules, const LogTable& log, Slot& slot);

// Adds a visit of `value` to one node.
void visit(Nodes& nodes, Index node, double value);

// Adds a visit of `value` to every node from `node` to the root; `landed` of their virtual visits end.
void backup(Nodes& nodes, Index node, double value, uint32_t landed);

// Ends one virtual visit on every node from `node` to the root.
void retreat(Nodes& nodes, Index node);

struct NewChild {
  double value;  // PPM score, or of a terminal its value; NaN without one
  float score;   // what the PPM said; NaN without
  Terminal terminal;
};

// Gives the claimed leaf its children and publishes them. Returns the first child's index.
Index expand(Nodes& nodes, const Rules& rules, Index leaf, const NewChild* children, uint32_t count);

// Makes the claimed leaf terminal.
void close(Nodes& nodes, const Rules& rules, Index leaf, Terminal terminal, double value);

}  // namespace rstar
