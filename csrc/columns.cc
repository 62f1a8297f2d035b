#include "columns.h"

#include <span>

#include "fault.h"

namespace rstar {

namespace py = pybind11;

namespace {

// types.TREE_TEXTS, in the order of Note's texts.
constexpr std::array<const char*, Note::kTexts> kTextNames = {"text", "observation", "answer"};

}  // namespace

py::dict to_numpy(Columns&& columns) {
  py::dict arrays;
  arrays["node"] = to_numpy(std::move(columns.node));
  arrays["parent"] = to_numpy(std::move(columns.parent));
  arrays["first_child"] = to_numpy(std::move(columns.first_child));
  arrays["child_count"] = to_numpy(std::move(columns.child_count));
  arrays["depth"] = to_numpy(std::move(columns.depth));
  arrays["visits"] = to_numpy(std::move(columns.visits));
  arrays["value_sum"] = to_numpy(std::move(columns.value_sum));
  arrays["value"] = to_numpy(std::move(columns.value));
  arrays["score"] = to_numpy(std::move(columns.score));
  arrays["terminal"] = to_numpy(std::move(columns.terminal));
  if (columns.proposals.empty()) return arrays;
  arrays["proposals"] = to_numpy(std::move(columns.proposals));
  for (uint32_t which = 0; which < Note::kTexts; ++which) {
    const std::string name = kTextNames[which];
    arrays[(name + "_offsets").c_str()] = to_numpy(std::move(columns.text_offsets[which]));
    arrays[(name + "_bytes").c_str()] = to_numpy(std::move(columns.text_bytes[which]));
  }
  return arrays;
}

namespace {

template <typename T>
Array<T> column(const py::dict& columns, const std::string& name) {
  return columns[name.c_str()].cast<Array<T>>();
}

}  // namespace

std::string fault_of_tree(const py::dict& columns) {
  const auto parent = column<int32_t>(columns, "parent"), first_child = column<int32_t>(columns, "first_child"), child_count = column<int32_t>(columns, "child_count");
  const auto depth = column<uint16_t>(columns, "depth");
  const auto terminal = column<uint8_t>(columns, "terminal");
  std::string fault = fault_of_links({span_of(parent, "parent"), span_of(first_child, "first_child"), span_of(child_count, "child_count"), span_of(depth, "depth"), span_of(terminal, "terminal")});
  for (uint32_t which = 0; which < Note::kTexts && fault.empty(); ++which) {
    const std::string name = kTextNames[which];
    const auto offsets = column<int64_t>(columns, name + "_offsets");
    const auto bytes = column<uint8_t>(columns, name + "_bytes");
    fault = fault_of_texts(name, {span_of(offsets, name), span_of(bytes, name)});
  }
  return fault;
}

}  // namespace rstar
