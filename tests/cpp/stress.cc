// Many threads on one forest, everything at random: leaves expanded, valued, closed, cancelled and kept for later, trees added
// and removed meanwhile, leaves claimed and their rollouts left, trees stopped early and run on. Then everything must add up. Made to run under the thread, address and undefined-behaviour sanitizers.
//
//   stress SEED ROUNDS
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "forest.h"

using namespace rstar;

namespace {

struct Plan {
  uint32_t trees, rollouts, in_flight, threads;
  uint64_t most_out;
  bool own_visits, values_leaves, notes, claims, stops;
};

using Random = std::mt19937_64;

double between(Random& random, double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }

uint32_t below(Random& random, uint32_t bound) { return static_cast<uint32_t>(random() % bound); }

std::vector<NewChild> draw_children(Random& random, uint32_t depth, bool own_visits) {
  std::vector<NewChild> children(1 + below(random, below(random, 20) == 0 ? 90 : 6));
  for (NewChild& child : children) {
    const bool ends = below(random, 6) < depth;
    const double value = between(random, -1, 1);
    child = {own_visits || ends ? value : std::nan(""), own_visits ? static_cast<float>(value) : std::nanf(""),
             ends ? Terminal::kAnswer : Terminal::kNo};
  }
  return children;
}

// The text of a child of a family.
std::string text_of(size_t count, size_t child) { return "c" + std::to_string(count) + "." + std::string(child, 'x'); }

// Totals of a finished tree.
void check_tree(const Forest& forest, uint32_t tree, const Plan& plan) {
  const Columns columns = forest.columns(tree);
  CHECK(forest.in_flight(tree) == 0);
  CHECK(plan.stops || forest.rollouts_ended(tree) == plan.rollouts);
  CHECK(columns.visits[0] == forest.rollouts_ended(tree));
  const size_t count = columns.node.size();
  for (size_t node = 0; node < count; ++node) {
    CHECK(std::abs(columns.value_sum[node]) <= columns.visits[node] + 1e-9);
    uint64_t below_it = 0;
    for (int32_t i = 0; i < columns.child_count[node]; ++i) {
      const size_t child = static_cast<size_t>(columns.first_child[node] + i);
      CHECK(columns.parent[child] == static_cast<int32_t>(node));
      if (plan.notes) {
        const int64_t begin = columns.text_offsets[0][child], end = columns.text_offsets[0][child + 1];
        const auto bytes = reinterpret_cast<const char*>(columns.text_bytes[0].data());
        CHECK(std::string(bytes + begin, bytes + end) == text_of(static_cast<size_t>(columns.child_count[node]), static_cast<size_t>(i)));
        CHECK(columns.proposals[child] == static_cast<uint32_t>(i) + 2);
      }
      below_it += columns.visits[child] - (plan.own_visits ? 1 : 0);
    }
    const uint64_t backed_up = columns.visits[node] - (plan.own_visits && node != 0 ? 1 : 0);
    if (columns.terminal[node] == 0 && columns.child_count[node] != 0) {
      CHECK(plan.values_leaves ? backed_up >= below_it : backed_up == below_it);
    }
    if (columns.terminal[node] == 0 && columns.child_count[node] == 0 && !plan.values_leaves) CHECK(backed_up == 0);
  }
}

struct Work {
  Forest& forest;
  const Plan& plan;
  std::atomic<uint32_t> added{0}, finished{0};
  std::atomic<uint64_t> leaves{0};

  // Gives some leaves back, a kind at a time, and makes sure that their tickets are used up.
  void give_back(Random& random, std::span<const Leaf> back) {
    std::vector<Ticket> to_value, to_expand;
    std::vector<double> values;
    std::vector<uint32_t> counts;
    std::vector<NewChild> children;
    std::vector<Note> notes;
    std::string bytes;
    for (const Leaf& leaf : back) {
      const uint32_t draw = below(random, 100);
      if (draw < 8) {
        forest.cancel(leaf.ticket);
      } else if (draw < 12) {
        forest.close(leaf.ticket, Terminal::kNoCandidates, -1.0);
      } else if (draw < 40 && plan.values_leaves) {
        to_value.push_back(leaf.ticket);
        values.push_back(between(random, -1, 1));
      } else {
        const auto drawn = draw_children(random, leaf.depth, plan.own_visits);
        to_expand.push_back(leaf.ticket);
        counts.push_back(static_cast<uint32_t>(drawn.size()));
        children.insert(children.end(), drawn.begin(), drawn.end());
        for (size_t i = 0; plan.notes && i < drawn.size(); ++i) {
          bytes += text_of(drawn.size(), i);
          const auto end = static_cast<uint32_t>(bytes.size());
          notes.push_back({{end, end, end}, static_cast<uint32_t>(i) + 2});
        }
      }
    }
    forest.backup(to_value, values);
    forest.expand(to_expand, counts, children, notes, bytes);
    for (const Leaf& leaf : back) CHECK(!is_done([&] { forest.cancel(leaf.ticket); }));
    // A rollout waits where its leaf was until a select walks on with it, of whatever thread.
    for (const Leaf& leaf : back)
      if (plan.claims && below(random, 8) == 0) is_done([&] { forest.leave({&leaf.ticket, 1}); });
  }

  // Whether a call did what it says: false where another thread was first, or it may not be.
  template <typename Call>
  static bool is_done(Call&& call) {
    try {
      call();
      return true;
    } catch (const UsageError&) {
      return false;
    }
  }

  // A new tree, now and then with its root claimed before others come to it, or after.
  void add(Random& random, std::vector<Leaf>& kept, std::vector<uint32_t>& own) {
    const uint32_t tree = forest.add_tree(plan.rollouts);
    own.push_back(tree);
    if (!plan.claims || below(random, 2) == 0) return;
    const uint32_t lengths[] = {1};
    is_done([&] {
      const Index path[] = {forest.root(tree)};
      const auto claimed = forest.claim({&tree, 1}, lengths, path);
      kept.insert(kept.end(), claimed.begin(), claimed.end());
    });
  }

  void run(uint64_t seed) {
    Random random(seed);
    std::vector<Leaf> kept;
    std::vector<uint32_t> ended, own;
    while (finished.load() < plan.trees) {
      if (added.load() < plan.trees && below(random, 3) == 0 && added.fetch_add(1) < plan.trees) add(random, kept, own);
      // It may have been removed meanwhile, or its number be another tree's.
      if (plan.stops && !own.empty() && below(random, 8) == 0) is_done([&] { forest.stop(own[below(random, static_cast<uint32_t>(own.size()))]); });
      ended.clear();
      const auto found = forest.select(1 + below(random, 40), 1 + below(random, 3), ended);
      leaves.fetch_add(found.size());
      kept.insert(kept.end(), found.begin(), found.end());
      if (plan.notes) {
        std::vector<Ticket> tickets;
        for (const Leaf& leaf : found) tickets.push_back(leaf.ticket);
        const auto solutions = forest.solutions(tickets);
        for (size_t i = 0; i < found.size(); ++i) CHECK(std::count(solutions[i].begin(), solutions[i].end(), 'c') == found[i].depth);
      }
      for (uint32_t tree : ended) {
        check_tree(forest, tree, plan);
        if (plan.stops && below(random, 4) == 0) {
          forest.extend(tree, 1 + below(random, 9));
          continue;
        }
        forest.remove(tree);
        finished.fetch_add(1);
      }
      if (below(random, 2) == 0) std::shuffle(kept.begin(), kept.end(), random);  // else as they came: neighbours side by side
      size_t keep = below(random, 4);
      if (found.empty()) keep = 0;  // somebody must move on
      while (kept.size() > keep) {
        const size_t some = std::min<size_t>(kept.size() - keep, 1 + below(random, 12));
        give_back(random, std::span(kept).last(some));
        kept.resize(kept.size() - some);
      }
    }
    for (const Leaf& leaf : kept) std::fprintf(stderr, "leaf %lld is left\n", static_cast<long long>(leaf.ticket)), std::abort();
  }
};

void run(const Plan& plan, uint64_t seed) {
  Rules rules;
  rules.own_visits = plan.own_visits;
  rules.uct.first_play_urgency = plan.values_leaves ? std::numeric_limits<double>::infinity() : 0.0;
  Forest forest(rules, LogTable(), plan.in_flight, plan.most_out, plan.notes);
  Work work{forest, plan};
  {
    std::vector<std::jthread> team;
    for (uint32_t t = 1; t < plan.threads; ++t) team.emplace_back([&work, seed, t] { work.run(seed * 1000 + t); });
    work.run(seed * 1000);
  }
  CHECK(work.finished.load() == plan.trees);
}

}  // namespace

int main(int count, char** arguments) {
  const uint64_t seed = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 0;
  const uint64_t rounds = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 20;
  for (uint64_t round = 0; round < rounds; ++round) {
    Random random(seed + round);
    const Plan plan{1 + below(random, 40), 1 + below(random, 60), round % 3 == 0 ? 1 : 1 + below(random, 30),
                    std::array{1u, 2u, 4u, 7u}[round % 4], round % 5 == 0 ? 1 + below(random, 20) : 0, below(random, 2) == 0, below(random, 2) == 0, below(random, 2) == 0,
                    below(random, 2) == 0, below(random, 2) == 0};
    run(plan, seed + round);
  }
  std::printf("%llu rounds of random work added up\n", static_cast<unsigned long long>(rounds));
}
