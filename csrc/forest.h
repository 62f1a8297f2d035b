// Many trees: leaves selected from all of them in one call, over threads, without a lock.
//
// A forest has one set of rules and one node memory. Each tree has `in_flight` slots, one per rollout that may be out at a
// time. select() goes round the trees, at most one leaf a tree and pass, starting behind the tree served last, so that no
// tree starves. A leaf is named by a ticket; each ticket is expanded, closed or cancelled exactly once.
//
// Thread safety: every function may be called from any thread at any time. remove() waits for selects that are inside the
// tree, and the caller must hold none of its tickets.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "tree.h"

namespace rstar {

using Ticket = int64_t;

struct Leaf {
  Ticket ticket;
  uint32_t tree;
  Index node;
  uint32_t depth;
};

// The caller broke a rule of this interface; the message is one sentence for people.
struct UsageError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

enum class TreeState : uint8_t { kUnused, kRunning, kFinished, kRemoving };

struct Tree {
  // kRunning -> kFinished by the select that sees the last rollout end; -> kRemoving by remove(). Release/acquire.
  std::atomic<TreeState> state{TreeState::kUnused};
  // Selects inside the tree; remove() waits until there are none. Sequentially consistent with state: either the select
  // sees kRemoving and leaves, or remove() sees the select.
  std::atomic<uint32_t> visitors{0};
  // Rollouts started, cancelled ones taken back. Never above target. Relaxed: compare-exchange decides who starts one.
  std::atomic<uint32_t> started{0};
  std::atomic<uint32_t> ended{0};  // rollouts that reached their end
  uint32_t target{0};              // the rest is written before state becomes kRunning
  Index root{kNone};
  Index first_slot{kNone};
  std::atomic<Index> next_free{kNone};  // while unused
};

struct Columns {
  std::vector<Index> node;  // the nodes' indices in the forest, root first, in breadth-first order
  std::vector<int32_t> parent, first_child, child_count;
  std::vector<uint16_t> depth;
  std::vector<uint32_t> visits;
  std::vector<double> value_sum, value;
  std::vector<float> score;
  std::vector<uint8_t> terminal;
};

class Forest {
 public:
  Forest(Rules rules, LogTable log, uint32_t in_flight);

  uint32_t add_tree(uint32_t rollouts);
  void remove(uint32_t tree);

  // Up to `limit` leaves, and into `finished` the trees whose last rollout has ended, each once.
  std::vector<Leaf> select(size_t limit, unsigned threads, std::vector<uint32_t>& finished);

  // counts[b] children for tickets[b], taken in order from `children`. Returns each leaf's first child.
  std::vector<Index> expand(std::span<const Ticket> tickets, std::span<const uint32_t> counts, std::span<const NewChild> children);
  void close(Ticket ticket, Terminal terminal, double value);
  // Gives the leaf back: its rollout never happened, and another may claim the leaf.
  void cancel(Ticket ticket);

  Columns columns(uint32_t tree) const;
  // Sum over the tree's nodes of virtual visits; 0 when no rollout is out.
  uint64_t in_flight(uint32_t tree) const;
  uint32_t rollouts_ended(uint32_t tree) const;
  Index root(uint32_t tree) const;

 private:
  bool next_leaf(uint32_t tree, Leaf& leaf);
  bool start(Tree& tree, Slot& slot);
  bool is_finished(Tree& tree);
  void select_pass(size_t limit, unsigned threads, std::vector<Leaf>& leaves);
  Slot& take(Ticket ticket);
  const Tree& existing(uint32_t tree) const;
  uint32_t tree_count() const;
  template <typename Visit>
  void breadth_first(Index root, Visit&& visit) const;

  Rules rules_;
  LogTable log_;
  uint32_t slots_per_tree_;
  mutable Nodes nodes_;
  IndexSpace tree_space_, slot_space_;
  mutable Chunked<Tree> trees_;
  Chunked<Slot> slots_;
  // Where the next pass begins. A hint: two selects that read the same one only begin with the same tree.
  std::atomic<uint32_t> cursor_{0};
};

}  // namespace rstar
