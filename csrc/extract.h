// What the trees of problems teach: their trajectories, the best of them, and pairs of steps of which one is better.
//
// A row is a node of any of the trees: the trees' columns lie one behind the other. Several trees may belong to one problem; with the
// default rules they are then one tree, in which steps of equal text behind equal steps are one step, with the visits and values of all.
//
//   Q of a step    its values' sum / its visits. An answer that nobody has visited yet counts as visited once, with the key's verdict.
//   leads to right some answer below it, or it itself, is right
//   leads to wrong some answer below it, or it itself, is wrong, or the search gave up there (too deep, too many errors, no candidates),
//                  which it values -1 as well
//   trajectory     from the root's child to an answer, or to where the search gave up; two of equal text are one, the better
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fault.h"

namespace rstar {

// Columns of many trees, one behind the other; indices are each tree's own.
struct TreesView {
  std::span<const int64_t> starts;     // [T + 1], the row where each tree begins, and the end
  std::span<const uint32_t> problems;  // [T], never falling: the trees of a problem lie side by side
  LinkColumns links;                   // [N]
  std::span<const uint32_t> visits;    // [N]
  std::span<const double> value_sum;   // [N], finite
  struct Texts {
    std::span<const int64_t> starts;   // [T + 1], the byte where each tree's texts begin
    std::span<const int64_t> offsets;  // [N + T], each tree's own, from 0
    std::span<const uint8_t> bytes;
  } text, observation, answer;

  size_t trees() const { return problems.size(); }
  int64_t rows() const { return static_cast<int64_t>(links.parent.size()); }
  size_t tree_of(int64_t row) const;
  int64_t parent_of(size_t tree, int64_t row) const {  // -1 at the root
    const int32_t parent = links.parent[static_cast<size_t>(row)];
    return parent < 0 ? -1 : starts[tree] + parent;
  }
  std::string_view text_of(const Texts& texts, size_t tree, int64_t row) const {
    const auto at = static_cast<size_t>(row) + tree;
    const auto begin = static_cast<size_t>(texts.starts[tree] + texts.offsets[at]);
    return {reinterpret_cast<const char*>(texts.bytes.data()) + begin, static_cast<size_t>(texts.offsets[at + 1] - texts.offsets[at])};
  }

  // What does not fit, and where; "" where all fits. Nothing else here may be called of columns that have a fault.
  std::string fault() const;
};

struct ExtractionRules {
  uint32_t trajectories{2};        // for each problem
  uint32_t positives{2}, negatives{2};  // for each step
  bool final_step{true};           // whole trajectories against each other as well
  double min_margin{0};            // of the two Q
  uint64_t min_edit_distance{0};   // of the two texts, in code points
  // As microsoft/rStar: a step that leads to both right and wrong answers may be on either side, giving up does not count, trees are
  // not merged, a side of one stands against up to 4, and the best continuation of a positive must be better than the worst one of
  // its negative. Of the trajectories those with "error" in their text are left out after the best were chosen.
  bool reference{false};
};

struct Extracted {
  std::vector<double> q;  // [N], of the step that a row is, or was merged into

  // For each problem:
  std::vector<uint32_t> problem_trajectories, problem_correct;

  // Trajectories, problem by problem, depth first:
  std::vector<uint32_t> trajectory_problem;
  std::vector<int64_t> trajectory_row;  // its last step
  std::vector<double> trajectory_q_mean, trajectory_q_min;
  std::vector<uint8_t> trajectory_correct;
  std::vector<uint32_t> trajectory_rank;  // 1, 2, ... in the SFT set; 0 outside

  // Pairs, group by group:
  std::vector<uint32_t> pair_problem, pair_group;  // the pairs of one prefix share a group
  std::vector<int64_t> pair_chosen, pair_rejected;  // rows; of a final pair the last steps
  std::vector<double> pair_q_chosen, pair_q_rejected;  // of a final pair the trajectories' mean Q
  std::vector<uint8_t> pair_final;
  std::vector<uint32_t> pair_positives, pair_negatives;  // in the group, before margin and distance
  std::vector<double> pair_continued_margin;  // between the means of the two continuations; NaN but for the reference
};

// correct: [N], 1 where a row's answer is right, 0 where it is wrong, -1 elsewhere.
Extracted extract(const TreesView& trees, std::span<const int8_t> correct, const ExtractionRules& rules);

// The rows that tags like "0.3.1" name, each in the tree of the same place; -1 where there is none.
std::vector<int64_t> rows_of_tags(const TreesView& trees, std::span<const uint32_t> of_tree, std::span<const std::string_view> tags);

// The solutions up to and with each row, or only up to its parent, or only its own step, or the answer it gives. Surrogate pairs are joined, lone surrogates
// become U+FFFD: what comes out is UTF-8 for everybody.
enum class Part : uint8_t { kSolution, kPrefix, kStep, kAnswer };
struct Texts {
  std::vector<int64_t> offsets;
  std::vector<uint8_t> bytes;
};
Texts texts_of(const TreesView& trees, std::span<const int64_t> rows, Part part);

// Whether two texts differ by `least` insertions, deletions and replacements of code points, or more (Levenshtein).
bool differ_by(std::string_view a, std::string_view b, uint64_t least);

}  // namespace rstar
