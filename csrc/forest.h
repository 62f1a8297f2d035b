// Many trees: leaves selected from all of them in one call, over threads, without a lock.
//
// A forest has one set of rules and one node memory. Each tree has `in_flight` slots, one per rollout that may be out at a
// time. select() goes round the trees, starting behind the tree served last, and takes from each its share of the batch, one
// leaf at least: no tree starves. Of several threads each goes round its own part of the trees first, and no part falls more
// than some rounds behind. A leaf is named by a ticket; each ticket is expanded, valued, closed or cancelled exactly once.
//
// Who has a rule of his own for which leaf comes next names it to claim(), and once it has children ends its rollout by leave().
// stop() and extend() change how many rollouts a tree runs.
//
// Thread safety: every function may be called from any thread at any time, but for four things. A tree is removed, and is
// extended, beside no other call that names it; selects may run, and remove() waits for those that are inside the tree.
// solutions() of a ticket comes before whatever uses the ticket up, not beside it. And a rollout is left before a select goes on
// with it: of trees whose leaves are claimed nobody selects, or leave() may find that the rollout has gone.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "team.h"
#include "tree.h"

namespace rstar {

using Ticket = int64_t;

// How often the slot had been handed out when it was so by this ticket.
inline uint64_t generation_of(Ticket ticket) { return static_cast<uint64_t>(ticket) >> 32; }

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

enum class TreeState : uint32_t { kUnused, kRunning, kFinished, kRemoving };

// A tree's state and, above it, how many trees have had its number before: who remembers the whole word never takes a later
// tree of the number for the one that was there.
using TreeWord = uint32_t;
inline TreeState state_of(TreeWord word) { return static_cast<TreeState>(word & 3u); }
inline TreeWord with_state(TreeWord word, TreeState state) { return (word & ~3u) | static_cast<uint32_t>(state); }

struct alignas(64) Tree {
  // kRunning -> kFinished by the select that sees the last rollout end; -> kRunning, as if it were another tree, by extend();
  // -> kRemoving by remove(). Release/acquire.
  std::atomic<TreeWord> word{0};
  // Rollouts started, cancelled and left ones taken back. Never above target. Compare-exchange decides who starts one.
  std::atomic<uint32_t> started{0};
  std::atomic<uint32_t> ended{0};  // rollouts that reached their end
  // No rollout starts any more, and those that wait end where they stand. Sequentially consistent with `started`: who starts a
  // rollout looks here afterwards, so that either he sees the stop, or who then finds that all have ended sees the rollout.
  std::atomic<bool> stopped{false};
  // Written before the state becomes kRunning. Atomic because a select that comes too late may read those of the next tree.
  Relaxed<uint32_t> target{0};
  Relaxed<Index> root{kNone};
  Relaxed<Index> first_slot{kNone};
  std::atomic<Index> blocks{kNone};  // list of the blocks of its nodes, see Nodes::blocks
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
  // Where the forest keeps notes:
  std::vector<uint32_t> proposals;
  std::array<std::vector<int64_t>, Note::kTexts> text_offsets;
  std::array<std::vector<uint8_t>, Note::kTexts> text_bytes;
};

class Forest {
 public:
  // in_flight: rollouts out at a time in one tree; most_out: leaves out at a time in all, 0 for no limit; notes: whether steps
  // come with texts.
  Forest(Rules rules, LogTable log, uint32_t in_flight, uint64_t most_out, bool notes = false);

  ~Forest();

  uint32_t add_tree(uint32_t rollouts);
  void remove(uint32_t tree);

  // So many rollouts more: than the tree was to run or, of a stopped tree, than it has started. A tree that was reported finished
  // runs again, and will be reported again.
  void extend(uint32_t tree, uint32_t rollouts);
  // No rollout of the tree starts any more; one that waits, or comes to wait when its leaf is given back, ends without a visit at
  // the next select, which reports the tree finished once none of its leaves is out.
  void stop(uint32_t tree);

  // Up to `limit` leaves, and into `finished` the trees whose last rollout has ended, each once.
  std::vector<Leaf> select(size_t limit, unsigned threads, std::vector<uint32_t>& finished);
  // The leaves at the ends of paths, as select hands them out: trees[b] is walked from its root over lengths[b] nodes, taken in
  // order from `nodes`. Each path is a rollout that starts. All of them or, where one cannot be had, none.
  std::vector<Leaf> claim(std::span<const uint32_t> trees, std::span<const uint32_t> lengths, std::span<const Index> nodes);
  // Ends the rollouts whose leaves by these tickets have been expanded or closed, where they stand and without a visit: as if they
  // had been cancelled, but that their leaves keep what they got. All of them or, where one does not wait there, none.
  void leave(std::span<const Ticket> tickets);

  // counts[b] children for tickets[b], taken in order from `children`; where the forest keeps notes, there is one for each child,
  // the texts one behind the other in `bytes`. Returns each leaf's first child.
  std::vector<Index> expand(std::span<const Ticket> tickets, std::span<const uint32_t> counts, std::span<const NewChild> children,
                            std::span<const Note> notes = {}, std::string_view bytes = {});
  // The texts of the steps from the root to the leaf of each ticket, one behind the other. The tickets are out and stay out.
  std::vector<std::string> solutions(std::span<const Ticket> tickets) const;
  // Backs values[b] up from the leaf of tickets[b], whose rollout ends there. The leaf stays one.
  void backup(std::span<const Ticket> tickets, std::span<const double> values);
  void close(Ticket ticket, Terminal terminal, double value);
  // Gives the leaf back: its rollout never happened, and another may claim the leaf.
  void cancel(Ticket ticket);

  Columns columns(uint32_t tree) const;
  // Sum over the tree's nodes of virtual visits; 0 when no rollout is out.
  uint64_t in_flight(uint32_t tree) const;
  uint32_t rollouts_ended(uint32_t tree) const;
  Index root(uint32_t tree) const;
  const Nodes& nodes() const { return nodes_; }

 private:
  static constexpr uint32_t kSmallChunkBits = 14;
  static constexpr uint32_t kMostInFlight = 1u << kSmallChunkBits;
  static constexpr uint32_t kRun = 16;   // trees a thread takes at a time
  static constexpr size_t kAhead = 8;    // how far ahead of its use memory is asked for
  static constexpr uint64_t kNoLimit = ~uint64_t{0};
  static constexpr uint32_t kMostHomes = 64;
  static constexpr size_t kMostKnown = 1024;  // forests in which a thread remembers its number

  // What one thread found in a pass, and memory that it uses.
  struct Found {
    std::vector<Leaf> leaves;
    std::vector<uint32_t> finished;
    std::vector<Slot*> idle;  // owned slots without a rollout
    uint32_t thread = 0;  // its number among those that select
    uint32_t passes = 0;
    Walkers walkers;
  };

  // Calls with Alone where each tree has one slot, else with Shared: see node.h.
  template <typename Call>
  decltype(auto) with_access(Call&& call) {
    return slots_per_tree_ == 1 ? call(Alone{}) : call(Shared{});
  }
  template <typename Access>
  uint32_t start(Tree& tree, std::span<Slot* const> slots);
  template <typename Access>
  void take_back(const Slot& slot);
  template <typename Access>
  Slot& claim_one(uint32_t tree, std::span<const Index> path, const Slot* last);
  Slot& free_slot(uint32_t id, Tree& tree, uint32_t first);
  void hand_out(uint32_t tree, Slot& slot, std::vector<Leaf>& leaves);
  size_t take_run(std::span<const uint32_t> trees, size_t most, Found& found);
  void arrived(Arrival arrival, uint32_t tree, Slot& slot, Found& found, size_t& taken);
  size_t take_several(uint32_t tree, TreeWord running, size_t most, Found& found);
  size_t take_from(std::span<const uint32_t> trees, size_t share, size_t most, Found& found);
  uint32_t number_of_thread();
  uint32_t first_home(uint32_t homes, uint32_t count, Found& found);
  bool owns(Slot& slot, Tree& tree, TreeWord running, uint32_t id, SlotState& was);
  bool is_finished(Tree& tree, TreeWord running);
  size_t pass(size_t limit, unsigned threads, std::vector<Leaf>& leaves, std::vector<uint32_t>& finished);
  const Slot& slot_of(Ticket ticket) const;
  Slot& take(Ticket ticket);
  std::vector<Index> keep(std::span<const uint32_t> counts, std::span<const Note> notes, std::string_view bytes);
  std::vector<Slot*> take_all(std::span<const Ticket> tickets);
  size_t take_part(size_t limit);
  void came_back(size_t leaves);
  double first_value(Index node, Word word, double sum) const;
  const Tree& existing(uint32_t tree) const;
  uint32_t tree_count() const;
  template <typename Visit>
  void breadth_first(Index root, Visit&& visit) const;

  Rules rules_;
  LogTable log_;
  uint32_t slots_per_tree_;
  uint64_t most_out_;
  mutable Nodes nodes_;
  IndexSpace<kSmallChunkBits, 1> tree_space_, slot_space_;
  mutable Chunked<Tree, kSmallChunkBits> trees_;
  Chunked<Slot, kSmallChunkBits> slots_;
  // The trees are divided among the threads that select, so that each finds those in its core's caches that it left there; a home
  // is the part of one of them. Runs of a home's trees are taken from its cursor: trees looked at, modulo their number. Hints,
  // all of them: which tree is served when depends on them, and nothing else.
  struct alignas(64) Cursor {
    std::atomic<uint64_t> looked_at{0};
  };
  std::array<Cursor, kMostHomes> cursors_;
  std::atomic<uint32_t> homes_{0};  // for how many the cursors are
  // Leaves out, where most_out limits them; a select takes its part before it looks and gives back what it did not use.
  std::atomic<uint64_t> out_{0};
  uint64_t number_;  // of this forest among all; from 1
  std::atomic<uint32_t> threads_{0};  // that have selected
  Team team_;
};

}  // namespace rstar
