// What is wrong with the columns of a tree, found before anybody follows an index of theirs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace rstar {

// How the nodes of a tree hang together, N of each: see types.TREE_COLUMNS.
struct LinkColumns {
  std::span<const int32_t> parent, first_child, child_count;
  std::span<const uint16_t> depth;
  std::span<const uint8_t> terminal;

  LinkColumns part(size_t begin, size_t count) const {
    return {parent.subspan(begin, count), first_child.subspan(begin, count), child_count.subspan(begin, count), depth.subspan(begin, count),
            terminal.subspan(begin, count)};
  }
};

// One text for each node: UTF-8, lone surrogates allowed.
struct TextColumn {
  std::span<const int64_t> offsets;  // N + 1
  std::span<const uint8_t> bytes;

  std::string_view operator[](size_t row) const {
    return {reinterpret_cast<const char*>(bytes.data()) + offsets[row], static_cast<size_t>(offsets[row + 1] - offsets[row])};
  }
};

// The first row that does not fit the others, as "column 'x', row n, is ..., expected ..."; "" where all fit. One node at least.
std::string fault_of_links(const LinkColumns& columns);
std::string fault_of_texts(const std::string& name, const TextColumn& column);

}  // namespace rstar
