#include "extract_bindings.h"

#include <pybind11/stl.h>

#include "columns.h"
#include "extract.h"

namespace rstar {

namespace py = pybind11;

namespace {

// Keeps the arrays that a TreesView looks into.
class Trees {
 public:
  explicit Trees(const py::dict& columns) {
    view_.starts = take<int64_t>(columns, "starts");
    view_.problems = take<uint32_t>(columns, "problems");
    view_.links = {take<int32_t>(columns, "parent"), take<int32_t>(columns, "first_child"), take<int32_t>(columns, "child_count"), take<uint16_t>(columns, "depth"),
                   take<uint8_t>(columns, "terminal")};
    view_.visits = take<uint32_t>(columns, "visits");
    view_.value_sum = take<double>(columns, "value_sum");
    view_.text = texts(columns, "text");
    view_.observation = texts(columns, "observation");
    view_.answer = texts(columns, "answer");
    std::string fault;
    {
      py::gil_scoped_release release;
      fault = view_.fault();
    }
    if (!fault.empty()) throw UsageError(fault);
  }

  const TreesView& view() const { return view_; }

  void check_rows(std::span<const int64_t> rows) const {
    for (const int64_t row : rows)
      if (row < 0 || row >= view_.rows()) throw UsageError("row " + std::to_string(row) + " does not exist: give 0 to " + std::to_string(view_.rows() - 1));
  }

 private:
  template <typename T>
  std::span<const T> take(const py::dict& columns, const char* name) {
    if (!columns.contains(name)) throw UsageError(std::string("the column '") + name + "' is missing");
    if (!py::isinstance<Array<T>>(columns[name])) throw UsageError(std::string("the column '") + name + "' has another type than " + std::string(py::str(py::dtype::of<T>())));
    auto array = columns[name].cast<Array<T>>();
    const std::span<const T> values = span_of(array, name);
    array.attr("setflags")(py::arg("write") = false);  // what was checked stays as it is
    kept_.push_back(std::move(array));
    return values;
  }

  TreesView::Texts texts(const py::dict& columns, const std::string& name) {
    return {take<int64_t>(columns, (name + "_starts").c_str()), take<int64_t>(columns, (name + "_offsets").c_str()), take<uint8_t>(columns, (name + "_bytes").c_str())};
  }

  TreesView view_;
  std::vector<py::array> kept_;
};

py::dict extracted(const Trees& trees, const Array<int8_t>& correct, const ExtractionRules& rules) {
  const auto given = span_of(correct, "correct");
  const std::vector<int8_t> verdicts(given.begin(), given.end());  // nobody changes them between two looks
  if (static_cast<int64_t>(verdicts.size()) != trees.view().rows())
    throw UsageError("correct has " + std::to_string(verdicts.size()) + " entries: expected one for each of the " + std::to_string(trees.view().rows()) + " rows");
  Extracted made;
  {
    py::gil_scoped_release release;
    made = extract(trees.view(), verdicts, rules);
  }
  py::dict arrays;
  const auto put = [&](const char* name, auto& values) { arrays[name] = to_numpy(std::move(values)); };
  put("q", made.q);
  put("problem_trajectories", made.problem_trajectories);
  put("problem_correct", made.problem_correct);
  put("trajectory_problem", made.trajectory_problem);
  put("trajectory_row", made.trajectory_row);
  put("trajectory_q_mean", made.trajectory_q_mean);
  put("trajectory_q_min", made.trajectory_q_min);
  put("trajectory_correct", made.trajectory_correct);
  put("trajectory_rank", made.trajectory_rank);
  put("pair_problem", made.pair_problem);
  put("pair_group", made.pair_group);
  put("pair_chosen", made.pair_chosen);
  put("pair_rejected", made.pair_rejected);
  put("pair_q_chosen", made.pair_q_chosen);
  put("pair_q_rejected", made.pair_q_rejected);
  put("pair_final", made.pair_final);
  put("pair_positives", made.pair_positives);
  put("pair_negatives", made.pair_negatives);
  put("pair_continued_margin", made.pair_continued_margin);
  return arrays;
}

py::array_t<int64_t> rows_of(const Trees& trees, const Array<uint32_t>& of_tree, const std::vector<std::string>& tags) {
  const auto given = span_of(of_tree, "of_tree");
  const std::vector<uint32_t> numbers(given.begin(), given.end());
  if (numbers.size() != tags.size()) throw UsageError("of_tree must have one entry for each tag");
  for (const uint32_t number : numbers)
    if (number >= trees.view().trees()) throw UsageError("tree " + std::to_string(number) + " does not exist: there are " + std::to_string(trees.view().trees()));
  std::vector<int64_t> rows;
  {
    py::gil_scoped_release release;
    rows = rows_of_tags(trees.view(), numbers, std::vector<std::string_view>(tags.begin(), tags.end()));
  }
  return to_numpy(std::move(rows));
}

py::tuple texts(const Trees& trees, const Array<int64_t>& rows, Part part) {
  const auto given = span_of(rows, "rows");
  const std::vector<int64_t> wanted(given.begin(), given.end());
  trees.check_rows(wanted);
  Texts made;
  {
    py::gil_scoped_release release;
    made = texts_of(trees.view(), wanted, part);
  }
  return py::make_tuple(to_numpy(std::move(made.offsets)), to_numpy(std::move(made.bytes)));
}

}  // namespace

void bind_extraction(py::module_& m) {
  py::class_<Trees>(m, "Trees",
                    "Columns of many stored trees, one behind the other: those of types.TREE_COLUMNS that are needed; `starts` int64 [T + 1], the row where each tree "
                    "begins; `problems` uint32 [T], never falling; for text, observation and answer <name>_starts int64 [T + 1], <name>_offsets int64 [N + T], <name>_bytes.")
      .def(py::init<const py::dict&>(), py::arg("columns"), "Checks the columns, row by row; UsageError says what does not fit. They become read-only.")
      .def(
          "extract",
          [](const Trees& trees, const Array<int8_t>& correct, uint32_t trajectories, uint32_t positives, uint32_t negatives, bool final_step, double min_margin,
             uint64_t min_edit_distance, bool reference) {
            return extracted(trees, correct, {trajectories, positives, negatives, final_step, min_margin, min_edit_distance, reference});
          },
          py::arg("correct").noconvert(), py::kw_only(), py::arg("trajectories") = 2, py::arg("positives") = 2, py::arg("negatives") = 2, py::arg("final_step") = true,
          py::arg("min_margin") = 0.0, py::arg("min_edit_distance") = 0, py::arg("reference") = false,
          "Trajectories and preference pairs, as arrays by name (csrc/extract.h). correct: int8 [N], 1 where a row's answer is right, 0 where it is wrong, -1 elsewhere.")
      .def("rows", &rows_of, py::arg("of_tree").noconvert(), py::arg("tags"), "The row of each tag in its tree, [B] int64; -1 where there is none.")
      .def(
          "solutions", [](const Trees& trees, const Array<int64_t>& rows) { return texts(trees, rows, Part::kSolution); }, py::arg("rows").noconvert(),
          "The solutions that end in each row, as (offsets int64 [B + 1], bytes): UTF-8, lone surrogates replaced.")
      .def(
          "prefixes", [](const Trees& trees, const Array<int64_t>& rows) { return texts(trees, rows, Part::kPrefix); }, py::arg("rows").noconvert(),
          "As `solutions`, without each row's own step.")
      .def(
          "steps", [](const Trees& trees, const Array<int64_t>& rows) { return texts(trees, rows, Part::kStep); }, py::arg("rows").noconvert(),
          "As `solutions`, each row's own step only.")
      .def(
          "answers", [](const Trees& trees, const Array<int64_t>& rows) { return texts(trees, rows, Part::kAnswer); }, py::arg("rows").noconvert(),
          "As `solutions`, but the answers that the rows give.");
  m.def("differ_by", &differ_by, py::arg("a"), py::arg("b"), py::arg("least"), "Whether the edit distance of two texts, in code points, is at least so much.");
}

}  // namespace rstar
