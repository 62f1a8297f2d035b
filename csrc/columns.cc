#include "columns.h"

#include <bit>
#include <cstring>
#include <span>
#include <string_view>

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
class Column {
 public:
  Column(const py::dict& columns, std::string name)
      : name_(std::move(name)), array_(columns[name_.c_str()].cast<py::array_t<T, py::array::c_style>>()),
        values_(array_.data(), static_cast<size_t>(array_.size())) {}
  const T& operator[](size_t row) const { return values_[row]; }
  size_t size() const { return values_.size(); }
  const T* data() const { return values_.data(); }
  std::string wrong(size_t row, const std::string& expected) const {
    return "column '" + name_ + "', row " + std::to_string(row) + ", is " + std::to_string(values_[row]) + ": expected " + expected;
  }

 private:
  std::string name_;
  py::array_t<T, py::array::c_style> array_;
  std::span<const T> values_;
};

std::string fault_of_links(const py::dict& columns) {
  const Column<int32_t> parent(columns, "parent"), first_child(columns, "first_child"), child_count(columns, "child_count");
  const Column<uint16_t> depth(columns, "depth");
  const Column<uint8_t> terminal(columns, "terminal");
  const auto rows = static_cast<int64_t>(parent.size());
  if (parent[0] != -1) return parent.wrong(0, "-1, as the root has none");
  if (depth[0] != 0) return depth.wrong(0, "0 at the root");
  for (int64_t row = 0; row < rows; ++row) {
    const auto at = static_cast<size_t>(row);
    const int64_t up = parent[at], first = first_child[at], count = child_count[at];
    if (row > 0) {
      if (up < 0 || up >= row) return parent.wrong(at, "the number of an earlier row");
      const auto above = static_cast<size_t>(up);
      if (row < first_child[above] || row >= int64_t{first_child[above]} + child_count[above])
        return parent.wrong(at, "a row among whose children this one is");
      if (depth[at] != static_cast<uint16_t>(depth[above] + 1))
        return depth.wrong(at, "one more than its parent's, " + std::to_string(depth[above] + 1));
    }
    if (count < 0 || count >= rows) return child_count.wrong(at, "0 to " + std::to_string(rows - 1));
    if (count == 0 && first != -1) return first_child.wrong(at, "-1, as the node has no children");
    if (count != 0 && (first <= row || first + count > rows))
      return first_child.wrong(at, "a later row, with room for " + std::to_string(count) + " children before row " + std::to_string(rows));
    for (int64_t child = first; child < first + count; ++child)
      if (parent[static_cast<size_t>(child)] != row)
        return parent.wrong(static_cast<size_t>(child), std::to_string(row) + ", among whose children this row is");
    if (terminal[at] >= kTerminalCount) return terminal.wrong(at, "0 to " + std::to_string(kTerminalCount - 1));
  }
  return "";
}

// Whether bytes are UTF-8, lone surrogates allowed: Python's "surrogatepass".
bool is_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (uint64_t eight; at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const auto byte = static_cast<uint8_t>(text[at]);
    const int length = byte < 0x80 ? 1 : byte >= 0xC2 && byte < 0xE0 ? 2 : byte >= 0xE0 && byte < 0xF0 ? 3 : byte >= 0xF0 && byte < 0xF5 ? 4 : 0;
    if (length == 0 || at + static_cast<size_t>(length) > text.size()) return false;
    for (int i = 1; i < length; ++i)
      if ((static_cast<uint8_t>(text[at + static_cast<size_t>(i)]) & 0xC0) != 0x80) return false;
    const uint8_t second = length > 1 ? static_cast<uint8_t>(text[at + 1]) : 0;
    if ((byte == 0xE0 && second < 0xA0) || (byte == 0xF0 && second < 0x90) || (byte == 0xF4 && second >= 0x90)) return false;
    at += static_cast<size_t>(length);
  }
  return true;
}

std::string fault_of_texts(const py::dict& columns, const std::string& name) {
  const Column<int64_t> offsets(columns, name + "_offsets");
  const Column<uint8_t> bytes(columns, name + "_bytes");
  const auto size = static_cast<int64_t>(bytes.size());
  if (offsets[0] != 0) return offsets.wrong(0, "0, where the first text begins");
  for (size_t row = 0; row + 1 < offsets.size(); ++row) {
    const int64_t begin = offsets[row], end = offsets[row + 1];
    if (end < begin || end > size)
      return offsets.wrong(row + 1, std::to_string(begin) + " to " + std::to_string(size) + ", the bytes behind the text before");
    if (!is_utf8({reinterpret_cast<const char*>(bytes.data()) + begin, static_cast<size_t>(end - begin)}))
      return "column '" + name + "_bytes', the text of row " + std::to_string(row) + ", is no UTF-8";
  }
  if (offsets[offsets.size() - 1] != size) return offsets.wrong(offsets.size() - 1, std::to_string(size) + ", where the bytes end");
  return "";
}

}  // namespace

std::string fault_of_tree(const py::dict& columns) {
  std::string fault = fault_of_links(columns);
  for (uint32_t which = 0; which < Note::kTexts && fault.empty(); ++which) fault = fault_of_texts(columns, kTextNames[which]);
  return fault;
}

}  // namespace rstar
