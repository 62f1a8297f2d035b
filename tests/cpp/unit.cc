// The parts of the forest one by one, each at the edges of its memory. Made to run under the thread, address and undefined-behaviour
// sanitizers.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "extract.h"
#include "forest.h"

using namespace rstar;

namespace {

void check_sizes_and_classes() {
  using Space = Nodes::Space;
  for (uint32_t size = 1; size <= Nodes::kMostChildren; ++size) {
    const uint32_t rounded = Space::rounded(size), c = Space::class_of(size);
    CHECK(rounded >= size && rounded % Block::kNodes == 0 && c < Space::kClasses);
    CHECK(Space::size_of(c) == rounded && Space::class_of(rounded) == c);
    CHECK(size > 64 || rounded < size + Block::kNodes);
  }
}

void check_blocks_stay_in_their_chunk_and_come_back() {
  using Space = IndexSpace<8, 4>;
  Space space;
  Chunked<std::atomic<Index>, 8> links;
  const auto link = [&](Index i) -> std::atomic<Index>& { return links[i]; };
  std::mt19937_64 random(1);
  std::vector<std::pair<Index, uint32_t>> taken;
  std::vector<int> owners(1 << 16);
  for (int i = 0; i < 2000; ++i) {
    if (!taken.empty() && random() % 2 == 0) {
      const auto [first, size] = taken[random() % taken.size()];
      std::erase(taken, std::pair{first, size});
      for (uint32_t k = 0; k < Space::rounded(size); ++k) --owners[first + k];
      space.release(first, size, link);
      continue;
    }
    const uint32_t size = 1 + static_cast<uint32_t>(random() % 200);
    const Index first = space.allocate(size, link);
    const uint32_t rounded = Space::rounded(size);
    links.ensure(first + rounded - 1);
    CHECK(first % 4 == 0 && first / Space::kChunkSize == (first + rounded - 1) / Space::kChunkSize);
    for (uint32_t k = 0; k < rounded; ++k) CHECK(++owners[first + k] == 1);
    taken.emplace_back(first, size);
  }
  const uint32_t before = space.high_water();
  for (const auto& [first, size] : taken) space.release(first, size, link);
  for (const auto& [first, size] : taken) space.allocate(size, link);
  CHECK(space.high_water() == before);
}

void check_threads_get_blocks_of_their_own() {
  Nodes nodes;
  std::vector<std::atomic<int>> owners(1 << 20);
  std::vector<std::jthread> team;
  for (uint64_t seed = 0; seed < 4; ++seed)
    team.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int round = 0; round < 60; ++round) {
        Stock stock(nodes);
        std::vector<std::pair<Index, uint32_t>> taken;
        for (int i = 0; i < 40; ++i) {
          const uint32_t size = 1 + static_cast<uint32_t>(random() % 70);
          taken.emplace_back(stock.take(size), size);
          CHECK(owners[taken.back().first].fetch_add(1) == 0);
          for (uint32_t k = 0; k < size; ++k) new (&nodes.stats[taken.back().first + k]) Stats;
        }
        for (const auto& [first, size] : taken) {
          owners[first].fetch_sub(1);
          stock.put(first, size);
        }
      }
    });
}

// Families in memory that ends with them: what reads beyond is found by the sanitizer.
void check_selectors_agree_and_read_no_further() {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> values(-1, 1);
  const LogTable log;
  for (int round = 0; round < 3000; ++round) {
    const uint32_t count = 1 + static_cast<uint32_t>(random() % 80);
    const auto family = std::make_unique<Stats[]>(count);
    for (uint32_t i = 0; i < count; ++i) {
      const uint64_t visits = random() % 3 == 0 ? 0 : random() % 100;
      family[i].value_sum = visits == 0 ? 0.0 : std::round(values(random) * 4) / 4 * static_cast<double>(visits);
      family[i].bits = visits * Word::kVisit + (random() % 4 == 0 ? random() % 5 : 0) * Word::kVirtualVisit;
    }
    // Numbers at the ends of single precision and of the counts.
    constexpr double kMost = std::numeric_limits<float>::max(), kLeast = std::numeric_limits<float>::denorm_min();
    constexpr std::array kSums = {-kMost, kMost, kLeast, -kLeast, 1e300, -1e300, kMost / 4, 0.5 * kMost};
    if (round % 3 == 0) {
      for (uint32_t i = 0; i < count; ++i) {
        if (random() % 2 == 0 || round % 9 == 0) {
          family[i].value_sum = kSums[random() % kSums.size()];
          family[i].bits = (random() % 4 == 0 ? 0xFFFFFFFFu - random() % 3 : 1 + random() % 3) * Word::kVisit + random() % 7 * Word::kVirtualVisit;
        }
      }
    }
    const Uct uct{2.0, random() % 2 == 0 ? 0.0 : std::numeric_limits<double>::infinity(), 1.0};
    const uint64_t parent = random() % 5000;
    std::vector<uint32_t> expected(1 + random() % 9), chosen(expected.size());
    selectors().back().several(family.get(), count, parent, log, uct, expected);
    for (const Selector& able : selectors()) {
      able.several(family.get(), count, parent, log, uct, chosen);
      CHECK(chosen == expected);
      CHECK(able.one(family.get(), count, log(parent), uct) == expected[0]);
    }
  }
}

// A tree is removed while another thread selects from it: it is refused where a leaf is out, and nothing is lost.
void check_a_tree_is_removed_beside_selects() {
  Forest forest(Rules{}, LogTable(), 2, 1);
  std::atomic<bool> done{false};
  std::jthread other([&] {
    std::vector<uint32_t> ended;
    while (!done.load())
      for (const Leaf& leaf : forest.select(1, 1, ended)) forest.cancel(leaf.ticket);
  });
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    const uint32_t tree = forest.add_tree(5);
    for (bool removed = false; !removed;) {
      try {
        forest.remove(tree);
        removed = true;
      } catch (const UsageError&) {
        ++refused;
      }
    }
  }
  done = true;
  other.join();
  forest.add_tree(1);
  std::vector<uint32_t> ended;
  CHECK(forest.select(1, 1, ended).size() == 1);
  std::printf("a tree was removed 2000 times, and kept %d times as a leaf of it was out\n", refused);
}

// Trees are stopped and extended while other threads select from them: no rollout is lost, each end is reported, and at the end
// nothing is in flight.
void check_trees_are_stopped_and_extended_beside_selects() {
  for (const uint32_t in_flight : {1u, 3u}) {
    Forest forest(Rules{}, LogTable(), in_flight, 0);
    std::atomic<bool> done{false};
    const uint32_t tree = forest.add_tree(3);
    std::atomic<int> reported{0};
    const auto work = [&](uint64_t seed) {
      std::mt19937_64 random(seed);
      std::vector<uint32_t> ended;
      while (!done.load()) {
        ended.clear();
        for (const Leaf& leaf : forest.select(2, 1, ended)) {
          const NewChild child{1.0, std::nanf(""), leaf.depth == 3 ? Terminal::kAnswer : Terminal::kNo};
          if (random() % 3 == 0 || leaf.depth > 3)
            forest.cancel(leaf.ticket);
          else
            forest.expand(std::array{leaf.ticket}, std::array{2u}, std::array{child, child});
        }
        reported.fetch_add(static_cast<int>(ended.size()));
      }
    };
    std::jthread first([&] { work(1); }), second([&] { work(2); });
    std::mt19937_64 random(3);
    for (int round = 0; round < 300; ++round) {
      if (random() % 2 == 0) forest.stop(tree);
      while (reported.load() == round) std::this_thread::yield();  // each end is reported once
      CHECK(forest.in_flight(tree) == 0);
      forest.extend(tree, 1 + static_cast<uint32_t>(random() % 5));
    }
    while (reported.load() == 300) std::this_thread::yield();
    done = true;
  }
}

// Leaves are claimed, expanded and left by one thread, selected by another one.
void check_leaves_are_claimed_beside_selects() {
  Forest forest(Rules{}, LogTable(), 4, 0);
  std::atomic<bool> done{false};
  const uint32_t tree = forest.add_tree(1u << 30), other_tree = forest.add_tree(1u << 30);
  std::jthread other([&] {
    std::vector<uint32_t> ended;
    while (!done.load())
      for (const Leaf& leaf : forest.select(2, 1, ended)) forest.cancel(leaf.ticket);
  });
  std::vector<Index> path{forest.root(tree)};
  int refused = 0;
  for (int claimed = 0; claimed < 500;) {
    std::vector<Leaf> leaves;
    try {
      leaves = forest.claim(std::array{tree}, std::array{static_cast<uint32_t>(path.size())}, path);
    } catch (const UsageError&) {  // the other has the leaf
      ++refused;
      continue;
    }
    CHECK(leaves.size() == 1 && leaves[0].node == path.back() && leaves[0].depth + 1 == path.size());
    const NewChild child{0.0, std::nanf(""), Terminal::kNo};
    path.push_back(forest.expand(std::array{leaves[0].ticket}, std::array{1u}, std::array{child})[0]);
    try {
      forest.leave(std::array{leaves[0].ticket});
    } catch (const UsageError&) {  // the other goes on with it
    }
    ++claimed;
  }
  done = true;
  other.join();
  // Rollouts that the other went on with may wait where they stand.
  forest.stop(tree);
  forest.stop(other_tree);
  std::vector<uint32_t> ended;
  CHECK(forest.select(9, 1, ended).empty() && ended.size() == 2);
  CHECK(forest.in_flight(tree) == 0 && forest.in_flight(other_tree) == 0 && forest.columns(tree).node.size() == 501);
  std::printf("500 leaves were claimed, and %d times another had them\n", refused);
}

void check_notes_keep_texts_until_they_are_released() {
  Notes notes;
  const auto add = [&](const std::vector<std::array<std::string, 3>>& texts) {
    std::vector<Note> of_children;
    std::string bytes;
    for (const auto& [step, observation, answer] : texts) {
      Note note{{}, static_cast<uint32_t>(step.size())};
      uint32_t which = 0;
      for (const std::string& text : {step, observation, answer}) {
        bytes += text;
        note.ends[which++] = static_cast<uint32_t>(bytes.size());
      }
      of_children.push_back(note);
    }
    return notes.add(of_children, bytes);
  };
  std::mt19937_64 random(3);
  std::set<Index> places;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::array<std::string, 3>> texts(1 + random() % 40);
    for (auto& of_child : texts)
      for (std::string& text : of_child) text.assign(random() % (round % 10 == 0 ? 9000 : 60), static_cast<char>('a' + random() % 26));
    const Index at = add(texts);
    places.insert(at);
    const auto count = static_cast<uint32_t>(texts.size());
    for (uint32_t child = 0; child < count; ++child) {
      for (uint32_t which = 0; which < 3; ++which) CHECK(notes.text(at, count, child, which) == texts[child][which]);
      CHECK(notes.proposals(at, child) == texts[child][0].size());
    }
    notes.release(at);
  }
  CHECK(places.size() < 200);  // released ones are used again
  bool refused = false;
  try {
    add({{std::string(65 << 20, 'x'), "", ""}});
  } catch (const std::length_error&) {
    refused = true;
  }
  CHECK(refused);
}

void check_a_path_holds_what_was_put() {
  Path path;
  for (Index depth = 0; depth < 1000; ++depth) path.put(depth, 3 * depth);
  path.put(7, 1);
  for (Index depth = 0; depth < 1000; ++depth) CHECK(path[depth] == (depth == 7 ? 1 : 3 * depth));
  path.free();
}

void check_a_gate_lets_one_through() {
  Gate gate;
  CHECK(gate.state() == SlotState::kFree && !gate.take(SlotState::kReady));
  std::atomic<int> through{0};
  {
    std::vector<std::jthread> team;
    for (int i = 0; i < 4; ++i)
      team.emplace_back([&] { through += gate.take(SlotState::kFree); });
  }
  CHECK(through == 1 && gate.state() == SlotState::kWalking);
  const uint64_t generation = gate.next_generation();
  gate.hand_out();
  CHECK(gate.is_out(generation) && !gate.is_out(generation + 1) && !gate.take_out(generation + (uint64_t{1} << 30)));
  CHECK(gate.take_out(generation) && !gate.take_out(generation));
  gate.give(SlotState::kFree);
  CHECK(!gate.is_out(generation) && gate.next_generation() == generation + 1);
}

void check_a_team_does_all_work_each_time() {
  Team team;
  for (unsigned round = 1; round < 60; ++round) {
    const unsigned threads = 1 + round % 5;
    std::atomic<int> left{40};
    std::vector<std::atomic<int>> done(40);
    team.run(threads, [&](unsigned number) {
      CHECK(number < threads);
      for (int at; (at = --left) >= 0;) ++done[static_cast<size_t>(at)];
    });
    for (const auto& times : done) CHECK(times == 1);
  }
}

// Columns of many trees of a problem each, drawn at random, and what is wrong in them put there on purpose.
struct RandomTrees {
  std::vector<int64_t> starts{0}, text_starts{0}, offsets, observation_starts{0}, observation_offsets;
  std::vector<uint32_t> problems, visits;
  std::vector<int32_t> parent, first_child, child_count;
  std::vector<uint16_t> depth;
  std::vector<uint8_t> terminal, bytes, observation;
  std::vector<double> value_sum;
  std::vector<int8_t> correct;

  explicit RandomTrees(std::mt19937_64& random) {
    for (uint32_t tree = 0; tree < 6; ++tree) {
      problems.push_back(tree / 2);
      const size_t start = parent.size();
      std::vector<int32_t> first, count, up{-1};
      std::vector<uint16_t> deep{0};
      for (size_t row = 0; row < up.size(); ++row) {
        const auto children = static_cast<int32_t>(up.size() > 60 ? 0 : random() % 4);
        first.push_back(children > 0 ? static_cast<int32_t>(up.size()) : -1);
        count.push_back(children);
        for (int32_t child = 0; child < children; ++child) {
          up.push_back(static_cast<int32_t>(row));
          deep.push_back(static_cast<uint16_t>(deep[row] + 1));
        }
      }
      int64_t at = 0;
      for (size_t row = 0; row < up.size(); ++row) {
        offsets.push_back(at);
        observation_offsets.push_back(0);
        for (size_t length = random() % 3; length > 0; --length, ++at) bytes.push_back(static_cast<uint8_t>('a' + random() % 2));
        visits.push_back(static_cast<uint32_t>(random() % 3));
        value_sum.push_back(static_cast<double>(static_cast<int>(random() % 7) - 3));
        terminal.push_back(static_cast<uint8_t>(count[row] > 0 ? 0 : random() % kTerminalCount));
        correct.push_back(terminal.back() == 1 ? static_cast<int8_t>(random() % 2) : int8_t{-1});
      }
      offsets.push_back(at);
      observation_offsets.push_back(0);
      parent.insert(parent.end(), up.begin(), up.end());
      first_child.insert(first_child.end(), first.begin(), first.end());
      child_count.insert(child_count.end(), count.begin(), count.end());
      depth.insert(depth.end(), deep.begin(), deep.end());
      starts.push_back(static_cast<int64_t>(start + up.size()));
      text_starts.push_back(static_cast<int64_t>(bytes.size()));
      observation_starts.push_back(0);
    }
  }

  TreesView view() const {
    return {starts, problems, {parent, first_child, child_count, depth, terminal}, visits, value_sum, {text_starts, offsets, bytes}, {observation_starts, observation_offsets, observation}, {observation_starts, observation_offsets, observation}};
  }
};

void check_extraction_reads_no_further_than_its_columns() {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    RandomTrees trees(random);
    CHECK(trees.view().fault().empty());
    for (const bool reference : {false, true}) {
      ExtractionRules rules;
      rules.reference = reference;
      const Extracted found = extract(trees.view(), trees.correct, rules);
      CHECK(found.problem_correct.size() == 3 && found.q.size() == trees.parent.size());
      CHECK(texts_of(trees.view(), found.pair_chosen, Part::kSolution).offsets.size() == found.pair_chosen.size() + 1);
      for (size_t pair = 0; pair < found.pair_chosen.size(); ++pair) CHECK(found.pair_q_chosen[pair] > found.pair_q_rejected[pair]);
    }
    // One number anywhere is another: told, or harmless.
    const size_t row = random() % trees.parent.size();
    const auto number = static_cast<int32_t>(random() % 80) - 1;
    switch (random() % 6) {
      case 0: trees.parent[row] = number; break;
      case 1: trees.first_child[row] = number; break;
      case 2: trees.child_count[row] = number; break;
      case 3: trees.offsets[row] = number; break;
      case 4: trees.starts[random() % trees.starts.size()] = number; break;
      default: trees.text_starts[random() % trees.text_starts.size()] = number;
    }
    if (!trees.view().fault().empty()) continue;
    const Extracted found = extract(trees.view(), trees.correct, {});
    texts_of(trees.view(), found.trajectory_row, Part::kPrefix);
  }
}

}  // namespace

int main() {
  check_sizes_and_classes();
  check_blocks_stay_in_their_chunk_and_come_back();
  check_threads_get_blocks_of_their_own();
  check_selectors_agree_and_read_no_further();
  check_notes_keep_texts_until_they_are_released();
  check_a_path_holds_what_was_put();
  check_a_gate_lets_one_through();
  check_a_team_does_all_work_each_time();
  check_a_tree_is_removed_beside_selects();
  check_trees_are_stopped_and_extended_beside_selects();
  check_leaves_are_claimed_beside_selects();
  check_extraction_reads_no_further_than_its_columns();
  std::puts("the forest's parts do what they say");
}
