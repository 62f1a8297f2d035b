#include "fault.h"

#include <cstring>

#include "node.h"

namespace rstar {

namespace {

template <typename T>
std::string wrong(const std::string& name, std::span<const T> column, size_t row, const std::string& expected) {
  return "column '" + name + "', row " + std::to_string(row) + ", is " + std::to_string(column[row]) + ": expected " + expected;
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

}  // namespace

std::string fault_of_links(const LinkColumns& columns) {
  const auto& [parent, first_child, child_count, depth, terminal] = columns;
  const auto rows = static_cast<int64_t>(parent.size());
  if (parent[0] != -1) return wrong("parent", parent, 0, "-1, as the root has none");
  if (depth[0] != 0) return wrong("depth", depth, 0, "0 at the root");
  for (int64_t row = 0; row < rows; ++row) {
    const auto at = static_cast<size_t>(row);
    const int64_t up = parent[at], first = first_child[at], count = child_count[at];
    if (row > 0) {
      if (up < 0 || up >= row) return wrong("parent", parent, at, "the number of an earlier row");
      const auto above = static_cast<size_t>(up);
      if (row < first_child[above] || row >= int64_t{first_child[above]} + child_count[above])
        return wrong("parent", parent, at, "a row among whose children this one is");
      if (depth[at] != static_cast<uint16_t>(depth[above] + 1))
        return wrong("depth", depth, at, "one more than its parent's, " + std::to_string(depth[above] + 1));
    }
    if (count < 0 || count >= rows) return wrong("child_count", child_count, at, "0 to " + std::to_string(rows - 1));
    if (count == 0 && first != -1) return wrong("first_child", first_child, at, "-1, as the node has no children");
    if (count != 0 && (first <= row || first + count > rows))
      return wrong("first_child", first_child, at, "a later row, with room for " + std::to_string(count) + " children before row " + std::to_string(rows));
    for (int64_t child = first; child < first + count; ++child)
      if (parent[static_cast<size_t>(child)] != row)
        return wrong("parent", parent, static_cast<size_t>(child), std::to_string(row) + ", among whose children this row is");
    if (terminal[at] >= kTerminalCount) return wrong("terminal", terminal, at, "0 to " + std::to_string(kTerminalCount - 1));
  }
  return "";
}

std::string fault_of_texts(const std::string& name, const TextColumn& column) {
  const auto& [offsets, bytes] = column;
  const auto size = static_cast<int64_t>(bytes.size());
  if (offsets[0] != 0) return wrong(name + "_offsets", offsets, 0, "0, where the first text begins");
  for (size_t row = 0; row + 1 < offsets.size(); ++row) {
    const int64_t begin = offsets[row], end = offsets[row + 1];
    if (end < begin || end > size)
      return wrong(name + "_offsets", offsets, row + 1, std::to_string(begin) + " to " + std::to_string(size) + ", the bytes behind the text before");
    if (!is_utf8({reinterpret_cast<const char*>(bytes.data()) + begin, static_cast<size_t>(end - begin)}))
      return "column '" + name + "_bytes', the text of row " + std::to_string(row) + ", is no UTF-8";
  }
  if (offsets[offsets.size() - 1] != size) return wrong(name + "_offsets", offsets, offsets.size() - 1, std::to_string(size) + ", where the bytes end");
  return "";
}

}  // namespace rstar
