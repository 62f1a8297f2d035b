#include "extract.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "node.h"

namespace rstar {

namespace {

constexpr uint32_t kNoStep = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kReferenceWidened = 4;

bool gave_up(uint8_t terminal) {
  const auto kind = static_cast<Terminal>(terminal);
  return kind == Terminal::kTooManyErrors || kind == Terminal::kTooDeep || kind == Terminal::kNoCandidates;
}

bool is_answer(uint8_t terminal) { return static_cast<Terminal>(terminal) == Terminal::kAnswer; }

// In any case.
bool says_error(std::string_view text) {
  constexpr std::string_view kError = "error";
  return std::search(text.begin(), text.end(), kError.begin(), kError.end(), [](char a, char b) { return (a | 0x20) == b; }) != text.end();
}

// A hash of which the hash of a concatenation follows, so that it does not depend on where a solution is cut into steps.
struct TextHash {
  static constexpr uint64_t kBase = 0x9E3779B97F4A7C15u;  // odd
  uint64_t hash{0}, power{1};                             // power: kBase to the length

  static TextHash of(std::string_view text) {
    TextHash made;
    for (const char c : text) {
      made.hash = made.hash * kBase + static_cast<uint8_t>(c) + 1;
      made.power *= kBase;
    }
    return made;
  }
  TextHash then(TextHash next) const { return {hash * next.power + next.hash, power * next.power}; }
};

// A step of one problem: one row, or rows of equal text behind equal steps.
struct Step {
  int64_t row{0};  // the first of its rows
  size_t tree{0};
  uint32_t parent{kNoStep}, first_child{kNoStep}, last_child{kNoStep}, next{kNoStep};
  uint32_t depth{0};
  uint64_t visits{0};
  double value_sum{0}, q{0};
  double path_sum{0}, path_min{std::numeric_limits<double>::infinity()};  // of Q, from the root's child
  TextHash solution;
  uint32_t right{0}, wrong{0};  // trajectories that go through it
  uint8_t terminal{0};
  int8_t correct{-1};
};

struct Trajectory {
  uint32_t end;
  double mean, min;
  bool correct;
};

bool better(const Trajectory& a, const Trajectory& b) { return a.mean != b.mean ? a.mean > b.mean : a.min > b.min; }

// The steps of one problem, and what is extracted from them.
class ProblemSteps {
 public:
  ProblemSteps(const TreesView& trees, std::span<const int8_t> correct, const ExtractionRules& rules, Extracted& out)
      : trees_(trees), correct_(correct), rules_(rules), out_(out) {}

  void extract(size_t begin, size_t end) {  // the problem's trees
    steps_.clear();
    first_row_ = trees_.starts[begin];
    const auto rows = static_cast<size_t>(trees_.starts[end] - first_row_);
    step_of_.assign(rows, kNoStep);
    size_t slots = 16;
    while (slots < 2 * rows) slots *= 2;
    if (!rules_.reference) table_.assign(slots, kNoStep);
    for (size_t tree = begin; tree < end; ++tree) add_tree(tree);
    value_steps();
    find_trajectories();
    out_.problem_trajectories.push_back(static_cast<uint32_t>(trajectories_.size()));
    out_.problem_correct.push_back(
        static_cast<uint32_t>(std::count_if(trajectories_.begin(), trajectories_.end(), [](const Trajectory& t) { return t.correct; })));
    keep_trajectories(trees_.problems[begin]);
    pair_steps(trees_.problems[begin]);
    if (rules_.final_step) pair_trajectories(trees_.problems[begin]);
  }

 private:
  std::string_view text_of(const Step& step) const { return trees_.text_of(trees_.text, step.tree, step.row); }

  void add_tree(size_t tree) {
    for (int64_t row = trees_.starts[tree]; row < trees_.starts[tree + 1]; ++row) {
      const auto at = static_cast<size_t>(row);
      const int64_t above = trees_.parent_of(tree, row);
      const uint32_t parent = above < 0 ? kNoStep : step_of_[static_cast<size_t>(above - first_row_)];
      const std::string_view text = trees_.text_of(trees_.text, tree, row);
      const TextHash hash = TextHash::of(text);
      const uint32_t number = rules_.reference ? add_step(parent) : find_or_add(parent, text, hash);
      Step& step = steps_[number];
      if (step.row < 0) {
        step.row = row;
        step.tree = tree;
        step.solution = parent == kNoStep ? hash : steps_[parent].solution.then(hash);
      }
      step.visits += trees_.visits[at];
      step.value_sum += trees_.value_sum[at];
      const uint8_t terminal = trees_.links.terminal[at];
      if (!is_answer(step.terminal) && (is_answer(terminal) || step.terminal == 0)) step.terminal = terminal;
      if (step.correct < 0) step.correct = correct_[at];
      step_of_[at - static_cast<size_t>(first_row_)] = number;
    }
  }

  uint32_t add_step(uint32_t parent) {
    const auto number = static_cast<uint32_t>(steps_.size());
    Step step;
    step.row = -1;
    step.parent = parent;
    if (parent != kNoStep) {
      Step& above = steps_[parent];
      step.depth = above.depth + 1;
      (above.last_child == kNoStep ? above.first_child : steps_[above.last_child].next) = number;
      above.last_child = number;
    }
    steps_.push_back(step);
    return number;
  }

  // The step of this text behind `parent`.
  uint32_t find_or_add(uint32_t parent, std::string_view text, TextHash hash) {
    uint64_t mixed = (hash.hash ^ (uint64_t{parent} << 32 | parent)) * 0xFF51AFD7ED558CCDu;
    mixed ^= mixed >> 32;
    for (size_t slot = mixed & (table_.size() - 1);; slot = (slot + 1) & (table_.size() - 1)) {
      const uint32_t there = table_[slot];
      if (there == kNoStep) return table_[slot] = add_step(parent);
      if (steps_[there].parent == parent && text_of(steps_[there]) == text) return there;
    }
  }

  void value_steps() {
    for (Step& step : steps_) {
      const bool is_end = step.first_child == kNoStep;
      const bool counts_as_wrong = is_end && gave_up(step.terminal) && !rules_.reference;
      if (is_end && is_answer(step.terminal) && step.correct >= 0) ++(step.correct > 0 ? step.right : step.wrong);
      if (counts_as_wrong) ++step.wrong;
      step.q = step.visits > 0 ? step.value_sum / static_cast<double>(step.visits) : double(step.right) - double(step.wrong);
      if (step.parent == kNoStep) continue;
      const Step& above = steps_[step.parent];
      step.path_sum = above.path_sum + step.q;
      step.path_min = std::min(above.path_min, step.q);
    }
    for (size_t number = steps_.size(); number-- > 1;) {  // children come behind their parents
      const Step& step = steps_[number];
      if (step.parent == kNoStep) continue;
      steps_[step.parent].right += step.right;
      steps_[step.parent].wrong += step.wrong;
    }
    for (size_t at = 0; at < step_of_.size(); ++at) out_.q[static_cast<size_t>(first_row_) + at] = steps_[step_of_[at]].q;
  }

  void find_trajectories() {
    trajectories_.clear();
    stack_.clear();
    for (size_t root = steps_.size(); root-- > 0;)  // without merging each tree has its own
      if (steps_[root].parent == kNoStep) stack_.push_back(static_cast<uint32_t>(root));
    while (!stack_.empty()) {
      const uint32_t number = stack_.back();
      stack_.pop_back();
      const Step& step = steps_[number];
      const size_t above = stack_.size();
      for (uint32_t child = step.first_child; child != kNoStep; child = steps_[child].next) stack_.push_back(child);
      std::reverse(stack_.begin() + static_cast<std::ptrdiff_t>(above), stack_.end());
      if (step.first_child == kNoStep && step.depth > 0 && (is_answer(step.terminal) || gave_up(step.terminal)))
        trajectories_.push_back({number, step.path_sum / step.depth, step.path_min, step.right > 0});
    }
    if (!rules_.reference) drop_equal_texts();
  }

  // Of trajectories of equal text, cut into steps differently, the best stays, at its place.
  void drop_equal_texts() {
    std::unordered_multimap<uint64_t, size_t> seen;
    std::vector<bool> dropped(trajectories_.size());
    for (size_t at = 0; at < trajectories_.size(); ++at) {
      const uint64_t hash = steps_[trajectories_[at].end].solution.hash;
      auto [from, to] = seen.equal_range(hash);
      const auto equal = std::find_if(from, to, [&](const auto& other) {
        return solution_of(trajectories_[other.second]) == solution_of(trajectories_[at]);
      });
      if (equal == to) {
        seen.emplace(hash, at);
      } else if (better(trajectories_[at], trajectories_[equal->second])) {
        dropped[equal->second] = true;
        equal->second = at;
      } else {
        dropped[at] = true;
      }
    }
    size_t kept = 0;
    for (size_t at = 0; at < trajectories_.size(); ++at)
      if (!dropped[at]) trajectories_[kept++] = trajectories_[at];
    trajectories_.resize(kept);
  }

  std::string solution_of(const Trajectory& trajectory) const {
    path_.clear();
    for (uint32_t number = trajectory.end; number != kNoStep; number = steps_[number].parent) path_.push_back(number);
    std::string text;
    for (size_t at = path_.size(); at-- > 0;) text += text_of(steps_[path_[at]]);
    return text;
  }

  bool has_error(const Trajectory& trajectory) const {
    if (rules_.reference) return says_error(solution_of(trajectory));
    for (uint32_t number = trajectory.end; number != kNoStep; number = steps_[number].parent)
      if (says_error(trees_.text_of(trees_.observation, steps_[number].tree, steps_[number].row))) return true;
    return false;
  }

  // The best `most` correct trajectories without an error, by mean Q, then least Q, then order.
  std::vector<size_t> best_correct(uint32_t most) const {
    std::vector<size_t> ranked, best;
    for (size_t at = 0; at < trajectories_.size(); ++at)
      if (trajectories_[at].correct) ranked.push_back(at);
    std::stable_sort(ranked.begin(), ranked.end(), [&](size_t a, size_t b) { return better(trajectories_[a], trajectories_[b]); });
    if (rules_.reference) ranked.resize(std::min<size_t>(ranked.size(), most));
    for (size_t at = 0; at < ranked.size() && best.size() < most; ++at)
      if (!has_error(trajectories_[ranked[at]])) best.push_back(ranked[at]);
    return best;
  }

  void keep_trajectories(uint32_t problem) {
    const size_t first = out_.trajectory_rank.size();
    for (const Trajectory& trajectory : trajectories_) {
      out_.trajectory_problem.push_back(problem);
      out_.trajectory_row.push_back(steps_[trajectory.end].row);
      out_.trajectory_q_mean.push_back(trajectory.mean);
      out_.trajectory_q_min.push_back(trajectory.min);
      out_.trajectory_correct.push_back(trajectory.correct);
      out_.trajectory_rank.push_back(0);
    }
    uint32_t rank = 0;
    for (const size_t at : best_correct(rules_.trajectories)) out_.trajectory_rank[first + at] = ++rank;
  }

  void pair_steps(uint32_t problem) {
    std::vector<uint32_t> queue, positives, negatives;  // breadth first
    for (uint32_t number = 0; number < steps_.size(); ++number)
      if (steps_[number].parent == kNoStep) queue.push_back(number);
    for (size_t at = 0; at < queue.size(); ++at) {
      positives.clear();
      negatives.clear();
      for (uint32_t child = steps_[queue[at]].first_child; child != kNoStep; child = steps_[child].next) {
        const Step& step = steps_[child];
        if (step.right > 0) positives.push_back(child);
        if (step.wrong > 0 && (step.right == 0 || rules_.reference)) negatives.push_back(child);
        if (step.right > 0 && step.wrong > 0) queue.push_back(child);
      }
      std::stable_sort(positives.begin(), positives.end(), [&](uint32_t a, uint32_t b) { return steps_[a].q > steps_[b].q; });
      std::stable_sort(negatives.begin(), negatives.end(), [&](uint32_t a, uint32_t b) { return steps_[a].q < steps_[b].q; });
      const size_t most = positives.size(), least = negatives.size();
      size_t chosen = std::min<size_t>(most, rules_.positives), rejected = std::min<size_t>(least, rules_.negatives);
      if (rules_.reference) {
        if (chosen == 1) rejected = std::min<size_t>(least, kReferenceWidened);
        if (rejected == 1) chosen = std::min<size_t>(most, kReferenceWidened);
      }
      positives.resize(chosen);
      negatives.resize(rejected);
      add_step_pairs(problem, positives, negatives);
    }
  }

  void add_step_pairs(uint32_t problem, const std::vector<uint32_t>& positives, const std::vector<uint32_t>& negatives) {
    const size_t before = out_.pair_group.size();
    for (const uint32_t chosen : positives) {
      for (const uint32_t rejected : negatives) {
        double continued = std::numeric_limits<double>::quiet_NaN();
        if (rules_.reference) {
          const double best = continued_mean(chosen, true), worst = continued_mean(rejected, false);
          if (!(best > worst)) continue;
          continued = best - worst;
        }
        const Step& a = steps_[chosen];
        const Step& b = steps_[rejected];
        if (tells_apart(a.q, b.q, text_of(a), text_of(b))) add_pair({problem, a.row, b.row, a.q, b.q, false, positives.size(), negatives.size(), continued});
      }
    }
    if (out_.pair_group.size() > before) ++groups_;
  }

  // The mean Q from a step on, always on to the best child that leads to right, or to the worst that leads to wrong.
  double continued_mean(uint32_t number, bool best) const {
    double sum = 0;
    for (double count = 1;; ++count) {
      sum += steps_[number].q;
      uint32_t next = kNoStep;
      for (uint32_t child = steps_[number].first_child; child != kNoStep; child = steps_[child].next) {
        if ((best ? steps_[child].right : steps_[child].wrong) == 0) continue;
        if (next == kNoStep || (best ? steps_[child].q > steps_[next].q : steps_[child].q < steps_[next].q)) next = child;
      }
      if (next == kNoStep) return sum / count;
      number = next;
    }
  }

  void pair_trajectories(uint32_t problem) {
    const std::vector<size_t> best = best_correct(rules_.positives);
    std::vector<size_t> worst;
    for (size_t at = 0; at < trajectories_.size(); ++at)
      if (!trajectories_[at].correct && is_answer(steps_[trajectories_[at].end].terminal)) worst.push_back(at);
    std::stable_sort(worst.begin(), worst.end(), [&](size_t a, size_t b) { return better(trajectories_[b], trajectories_[a]); });
    worst.resize(std::min<size_t>(worst.size(), rules_.negatives));
    const size_t before = out_.pair_group.size();
    for (const size_t chosen : best) {
      for (const size_t rejected : worst) {
        const Trajectory& a = trajectories_[chosen];
        const Trajectory& b = trajectories_[rejected];
        if (tells_apart(a.mean, b.mean, solution_of(a), solution_of(b)))
          add_pair({problem, steps_[a.end].row, steps_[b.end].row, a.mean, b.mean, true, best.size(), worst.size(), std::numeric_limits<double>::quiet_NaN()});
      }
    }
    if (out_.pair_group.size() > before) ++groups_;
  }

  bool tells_apart(double chosen_q, double rejected_q, std::string_view chosen, std::string_view rejected) const {
    const double margin = chosen_q - rejected_q;
    return margin > 0 && margin >= rules_.min_margin && differ_by(chosen, rejected, rules_.min_edit_distance);
  }

  struct Pair {
    uint32_t problem;
    int64_t chosen, rejected;
    double q_chosen, q_rejected;
    bool final;
    size_t positives, negatives;
    double continued_margin;
  };

  void add_pair(const Pair& pair) {
    out_.pair_problem.push_back(pair.problem);
    out_.pair_group.push_back(groups_);
    out_.pair_chosen.push_back(pair.chosen);
    out_.pair_rejected.push_back(pair.rejected);
    out_.pair_q_chosen.push_back(pair.q_chosen);
    out_.pair_q_rejected.push_back(pair.q_rejected);
    out_.pair_final.push_back(pair.final);
    out_.pair_positives.push_back(static_cast<uint32_t>(pair.positives));
    out_.pair_negatives.push_back(static_cast<uint32_t>(pair.negatives));
    out_.pair_continued_margin.push_back(pair.continued_margin);
  }

  const TreesView& trees_;
  std::span<const int8_t> correct_;
  const ExtractionRules& rules_;
  Extracted& out_;
  int64_t first_row_{0};
  uint32_t groups_{0};  // of all problems
  std::vector<Step> steps_;            // parents before children
  std::vector<uint32_t> step_of_;      // of the problem's rows
  std::vector<uint32_t> table_;        // steps by parent and text; open addressing
  std::vector<Trajectory> trajectories_;
  std::vector<uint32_t> stack_;
  mutable std::vector<uint32_t> path_;
};

}  // namespace

Extracted extract(const TreesView& trees, std::span<const int8_t> correct, const ExtractionRules& rules) {
  Extracted out;
  out.q.resize(static_cast<size_t>(trees.rows()));
  ProblemSteps steps(trees, correct, rules, out);
  for (size_t begin = 0, end = 0; begin < trees.trees(); begin = end) {
    while (end < trees.trees() && trees.problems[end] == trees.problems[begin]) ++end;
    steps.extract(begin, end);
  }
  return out;
}

size_t TreesView::tree_of(int64_t row) const {
  return static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), row) - starts.begin()) - 1;
}

std::string TreesView::fault() const {
  const size_t count = trees();
  if (starts.size() != count + 1 || text.starts.size() != count + 1 || observation.starts.size() != count + 1 || answer.starts.size() != count + 1)
    return "starts, and those of the texts: expected " + std::to_string(count + 1) + ", one more than there are trees";
  const auto whole = static_cast<size_t>(rows());
  if (whole >= kNoStep) return std::to_string(whole) + " rows are too many: give less than 2^32 at a time";
  for (const size_t length : {links.first_child.size(), links.child_count.size(), links.depth.size(), links.terminal.size(), visits.size(), value_sum.size()})
    if (length != whole) return "a column has " + std::to_string(length) + " rows: expected " + std::to_string(whole) + ", as 'parent' has";
  if (starts[0] != 0 || starts[count] != rows()) return "starts run from " + std::to_string(starts[0]) + " to " + std::to_string(starts[count]) + ": expected 0 to " + std::to_string(rows());
  for (const Texts* texts : {&text, &observation, &answer}) {
    if (texts->offsets.size() != whole + count) return "offsets of texts have " + std::to_string(texts->offsets.size()) + " entries: expected " + std::to_string(whole + count);
    const auto size = static_cast<int64_t>(texts->bytes.size());
    if (texts->starts[0] != 0 || texts->starts[count] != size) return "starts of texts: expected 0 to " + std::to_string(size);
    for (size_t tree = 0; tree < count; ++tree)
      if (texts->starts[tree] > texts->starts[tree + 1]) return "starts of texts fall at tree " + std::to_string(tree);
  }
  for (size_t tree = 0; tree < count; ++tree) {
    const int64_t begin = starts[tree], size = starts[tree + 1] - begin;
    if (size < 1 || size > std::numeric_limits<int32_t>::max() || starts[tree + 1] > rows()) return "tree " + std::to_string(tree) + " has " + std::to_string(size) + " rows: expected 1 to 2^31 - 1";
    if (tree > 0 && problems[tree] < problems[tree - 1]) return "problems fall at tree " + std::to_string(tree) + ": expected the trees of a problem side by side";
    std::string found = fault_of_links(links.part(static_cast<size_t>(begin), static_cast<size_t>(size)));
    for (const auto& [name, texts] : {std::pair{"text", &text}, std::pair{"observation", &observation}, std::pair{"answer", &answer}}) {
      if (!found.empty()) break;
      const auto first = static_cast<size_t>(texts->starts[tree]), bytes = static_cast<size_t>(texts->starts[tree + 1]) - first;
      found = fault_of_texts(name, {texts->offsets.subspan(static_cast<size_t>(begin) + tree, static_cast<size_t>(size) + 1), texts->bytes.subspan(first, bytes)});
    }
    for (int64_t row = 0; row < size && found.empty(); ++row)
      if (!std::isfinite(value_sum[static_cast<size_t>(begin + row)])) found = "column 'value_sum', row " + std::to_string(row) + ", is not finite";
    if (!found.empty()) return "tree " + std::to_string(tree) + ": " + found;
  }
  return "";
}

std::vector<int64_t> rows_of_tags(const TreesView& trees, std::span<const uint32_t> of_tree, std::span<const std::string_view> tags) {
  std::vector<int64_t> rows;
  for (size_t at = 0; at < tags.size(); ++at) {
    const int64_t start = trees.starts[of_tree[at]];
    const std::string_view tag = tags[at];
    int64_t row = !tag.empty() && tag[0] == '0' ? 0 : -1;
    for (size_t i = 1; i < tag.size() && row >= 0;) {
      uint64_t child = 0;
      size_t digit = i + 1;
      for (; digit < tag.size() && tag[digit] >= '0' && tag[digit] <= '9' && child <= std::numeric_limits<int32_t>::max(); ++digit)
        child = child * 10 + static_cast<uint64_t>(tag[digit] - '0');
      const auto here = static_cast<size_t>(start + row);
      const bool exists = tag[i] == '.' && child >= 1 && child <= static_cast<uint64_t>(trees.links.child_count[here]);
      row = exists ? trees.links.first_child[here] + static_cast<int64_t>(child) - 1 : -1;
      i = digit;
    }
    rows.push_back(row < 0 ? -1 : start + row);
  }
  return rows;
}

}  // namespace rstar
