#include "microbench.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "forest.h"

namespace rstar::microbench {

namespace {

using Clock = std::chrono::steady_clock;

// splitmix64's finalizer.
uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double value_of(uint64_t hash) { return static_cast<double>(static_cast<int64_t>(hash)) * 0x1p-63; }

Rules rules_of(const Setting& setting) {
  Rules rules;
  rules.uct.c = setting.c;
  rules.own_visits = setting.rollouts;
  if (!setting.rollouts) rules.uct.first_play_urgency = std::numeric_limits<double>::infinity();
  return rules;
}

std::vector<NewChild> unvalued(uint32_t children, bool last) {
  return std::vector<NewChild>(children, {last ? 0.5 : std::nan(""), std::nanf(""), last ? Terminal::kAnswer : Terminal::kNo});
}

// Scored children to draw from: those at a hash and behind it. Looking them up costs less than hashing each.
constexpr uint64_t kDraws = 512;
std::vector<NewChild> scored(uint32_t children, Terminal terminal) {
  std::vector<NewChild> drawn;
  for (uint64_t i = 0; i < kDraws + children; ++i) {
    const double value = value_of(mixed(i + 1));
    drawn.push_back({value, static_cast<float>(value), terminal});
  }
  return drawn;
}

}  // namespace

Measured single(const Setting& setting) {
  Nodes nodes;
  const Rules rules = rules_of(setting);
  const LogTable log;
  const auto children = unvalued(setting.children, false), last = unvalued(setting.children, true);
  const auto started = Clock::now();
  {
    Stock stock(nodes);
    const Index root = stock.take(1);
    new (&nodes.stats[root]) Stats;
    std::atomic<Index> blocks{kNone};
    Slot slot;
    uint64_t expansions = 0;
    for (uint64_t simulation = 0; simulation < setting.simulations; ++simulation) {
      slot.stand(0, root);
      Alone::add(nodes.stats[root], Word::kVirtualVisit);
      while (walk<Alone>(nodes, rules, log, slot) == Arrival::kLeaf) {
        Stats& leaf = nodes.stats[slot.node];
        if (slot.depth == 0 || leaf.word().visits() != 0) {
          const auto& given = slot.depth + 1 >= setting.depth ? last : children;
          expand<Alone>(nodes, rules, slot, given.data(), setting.children, stock.take(setting.children), kNone, blocks);
          ++expansions;
          continue;
        }
        uint64_t hash = 0;
        for (uint32_t depth = 1; depth <= slot.depth; ++depth) hash = mixed(hash + slot.path[depth]);
        backup<Alone>(nodes, slot, value_of(hash), true);
        Alone::clear(leaf, Word::kClaimed);
        break;
      }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
    const Stats& top = nodes.stats[root];
    const Measured measured{seconds, setting.simulations + expansions, 1 + expansions * setting.children, nodes.reserved_bytes(),
                            top.sum() / top.word().visits()};
    slot.path.free();
    return measured;
  }
}

namespace {

// One thread's part: leaves are selected, valued and given back until the trees have ended.
class Worker {
 public:
  // `to_open`: trees that are not in the forest yet.
  Worker(Forest& forest, const Setting& setting, std::atomic<uint32_t>& finished, std::atomic<uint32_t>& to_open)
      : forest_(forest), setting_(setting), finished_(finished), to_open_(to_open), plain_(unvalued(setting.children, false)), last_(unvalued(setting.children, true)),
        scored_(scored(setting.children, Terminal::kNo)), scored_last_(scored(setting.children, Terminal::kAnswer)) {}

  void run() {
    std::vector<uint32_t> ended;
    while (finished_.load(std::memory_order_relaxed) < setting_.trees) {
      ended.clear();
      const std::vector<Leaf> leaves = forest_.select(setting_.batch, 1, ended);
      for (uint32_t tree : ended) follow(tree);
      if (leaves.empty()) std::this_thread::yield();  // the others have all
      count += leaves.size();
      to_value_.clear();
      values_.clear();
      to_expand_.clear();
      counts_.clear();
      children_.clear();
      for (const Leaf& leaf : leaves) {
        const bool last = leaf.depth + 1 >= setting_.depth;
        const uint64_t hash = mixed(uint64_t{leaf.tree} << 32 | leaf.node);
        if (setting_.rollouts) {
          expand(leaf);
          const NewChild* const drawn = (last ? scored_last_ : scored_).data() + hash % kDraws;
          children_.insert(children_.end(), drawn, drawn + setting_.children);
        } else if (leaf.depth > 0 && forest_.nodes().stats[leaf.node].word().visits() == 0) {
          to_value_.push_back(leaf.ticket);
          values_.push_back(value_of(hash));
        } else {
          expand(leaf);
          const auto& given = last ? last_ : plain_;
          children_.insert(children_.end(), given.begin(), given.end());
        }
      }
      if (!to_value_.empty()) forest_.backup(to_value_, values_);
      if (!to_expand_.empty()) forest_.expand(to_expand_, counts_, children_);
      expansions += to_expand_.size();
    }
  }

  uint64_t count = 0, expansions = 0;

 private:
  // A tree has ended: the next one comes into its place.
  void follow(uint32_t tree) {
    finished_.fetch_add(1, std::memory_order_relaxed);
    uint32_t left = to_open_.load(std::memory_order_relaxed);
    do {
      if (left == 0) return;
    } while (!to_open_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed));
    forest_.remove(tree);
    forest_.add_tree(static_cast<uint32_t>(setting_.simulations));
  }
  void expand(const Leaf& leaf) {
    to_expand_.push_back(leaf.ticket);
    counts_.push_back(setting_.children);
  }

  Forest& forest_;
  const Setting& setting_;
  std::atomic<uint32_t>&finished_, &to_open_;
  const std::vector<NewChild> plain_, last_;              // children without values
  const std::vector<NewChild> scored_, scored_last_;      // with them: any `children` side by side
  std::vector<Ticket> to_value_, to_expand_;
  std::vector<double> values_;
  std::vector<uint32_t> counts_;
  std::vector<NewChild> children_;
};

}  // namespace

Measured forest(const Setting& setting, uint32_t repeats) {
  Forest forest(rules_of(setting), LogTable(), setting.in_flight, 0);
  const uint32_t open = setting.open == 0 ? setting.trees : std::min(setting.open, setting.trees);
  std::atomic<uint32_t> finished{0}, to_open{0};
  std::vector<Worker> workers(setting.threads, Worker(forest, setting, finished, to_open));
  std::barrier all(static_cast<std::ptrdiff_t>(setting.threads) + 1);
  std::vector<std::jthread> team;  // the same threads each time
  for (Worker& worker : workers)
    team.emplace_back([&worker, &all, repeats] {
      for (uint32_t repeat = 0; repeat < repeats; ++repeat) {
        all.arrive_and_wait();  // off
        worker.run();
        all.arrive_and_wait();  // done
      }
    });
  Measured measured{};
  for (uint32_t repeat = 0; repeat < repeats; ++repeat) {
    std::vector<uint32_t> trees;
    for (uint32_t tree = 0; tree < open; ++tree) trees.push_back(forest.add_tree(static_cast<uint32_t>(setting.simulations)));
    finished = 0;
    to_open = setting.trees - open;
    for (Worker& worker : workers) worker.count = worker.expansions = 0;
    const auto started = Clock::now();
    all.arrive_and_wait();
    all.arrive_and_wait();
    measured = {std::chrono::duration<double>(Clock::now() - started).count(), 0, setting.trees, forest.nodes().reserved_bytes(), 0.0};
    for (const Worker& worker : workers) {
      measured.leaves += worker.count;
      measured.nodes += worker.expansions * setting.children;
    }
    const Stats& top = forest.nodes().stats[forest.root(trees[0])];
    measured.root_value = top.sum() / top.word().visits();
    for (uint32_t tree : trees) forest.remove(tree);
  }
  return measured;
}

double handover() {
  constexpr uint32_t kTimes = 20'000;
  alignas(64) std::atomic<uint32_t> line{0};
  const auto play = [&line](uint32_t first) {
    for (uint32_t turn = first; turn < 2 * kTimes; turn += 2) {
      while (line.load(std::memory_order_acquire) != turn) {
      }
      line.store(turn + 1, std::memory_order_release);
    }
  };
  const auto started = Clock::now();
  {
    std::jthread other(play, 1);
    play(0);
  }
  return std::chrono::duration<double, std::nano>(Clock::now() - started).count() / (2 * kTimes);
}

}  // namespace rstar::microbench
