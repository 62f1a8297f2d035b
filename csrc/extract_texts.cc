#include <algorithm>
#include <string>
#include <vector>

#include "extract.h"

namespace rstar {

namespace {

// Where a surrogate stands (three bytes in UTF-8): its code point; 0 where another character does.
uint32_t surrogate_at(const std::vector<uint8_t>& bytes, size_t at) {
  if (at + 2 >= bytes.size() || bytes[at] != 0xED || bytes[at + 1] < 0xA0) return 0;
  return 0xD000u | static_cast<uint32_t>(bytes[at + 1] & 0x3F) << 6 | (bytes[at + 2] & 0x3Fu);
}

void mend_surrogates(std::vector<uint8_t>& bytes, size_t from) {
  size_t to = from;
  for (size_t at = from; at < bytes.size();) {
    const uint32_t first = surrogate_at(bytes, at);
    if (first == 0) {
      bytes[to++] = bytes[at++];
      continue;
    }
    const uint32_t second = surrogate_at(bytes, at + 3);
    if (first < 0xDC00 && second >= 0xDC00) {
      const uint32_t code = 0x10000u + ((first - 0xD800) << 10) + (second - 0xDC00);
      for (const uint32_t byte : {0xF0u | code >> 18, 0x80u | (code >> 12 & 0x3F), 0x80u | (code >> 6 & 0x3F), 0x80u | (code & 0x3F)})
        bytes[to++] = static_cast<uint8_t>(byte);
      at += 6;
    } else {
      for (const int byte : {0xEF, 0xBF, 0xBD}) bytes[to++] = static_cast<uint8_t>(byte);
      at += 3;
    }
  }
  bytes.resize(to);
}

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<uint8_t>(text[at]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t i = 1; i < length && at + i < text.size(); ++i) point = point << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3Fu);
    points.push_back(point);
    at += length;
  }
  return points;
}

}  // namespace

Texts texts_of(const TreesView& trees, std::span<const int64_t> rows, Part part) {
  Texts texts;
  texts.offsets.push_back(0);
  std::vector<int64_t> path;
  for (const int64_t last : rows) {
    const size_t tree = trees.tree_of(last);
    path.clear();
    for (int64_t row = part == Part::kPrefix ? trees.parent_of(tree, last) : last; row >= 0; row = trees.parent_of(tree, row)) {
      path.push_back(row);
      if (part == Part::kStep || part == Part::kAnswer) break;
    }
    const size_t begin = texts.bytes.size();
    bool may_have_surrogates = false;
    for (size_t at = path.size(); at-- > 0;) {
      const std::string_view text = trees.text_of(part == Part::kAnswer ? trees.answer : trees.text, tree, path[at]);
      may_have_surrogates |= text.find('\xED') != std::string_view::npos;
      texts.bytes.insert(texts.bytes.end(), text.begin(), text.end());
    }
    if (may_have_surrogates) mend_surrogates(texts.bytes, begin);
    texts.offsets.push_back(static_cast<int64_t>(texts.bytes.size()));
  }
  return texts;
}

bool differ_by(std::string_view a, std::string_view b, uint64_t least) {
  if (least == 0) return true;
  std::u32string x = code_points(a), y = code_points(b);
  while (!x.empty() && !y.empty() && x.back() == y.back()) {
    x.pop_back();
    y.pop_back();
  }
  if (x.size() > y.size()) x.swap(y);
  if (y.size() - x.size() >= least) return true;
  if (y.size() < least) return false;  // no distance is longer than the longer text
  // Rows of the table of distances, of which only what lies less than `least` from the diagonal can stay below it.
  const uint64_t band = least - 1, far = least;
  std::vector<uint64_t> distance(x.size() + 1);
  for (size_t i = 0; i <= x.size(); ++i) distance[i] = std::min<uint64_t>(i, far);
  for (size_t j = 1; j <= y.size(); ++j) {
    const size_t begin = j > band ? j - band : 1, end = std::min<size_t>(x.size(), j + band);
    uint64_t diagonal = distance[begin - 1];
    distance[begin - 1] = begin == 1 ? std::min<uint64_t>(j, far) : far;
    uint64_t lowest = distance[begin - 1];
    for (size_t i = begin; i <= end; ++i) {
      const uint64_t replaced = diagonal + (x[i - 1] != y[j - 1]);
      diagonal = distance[i];
      distance[i] = std::min({replaced, distance[i] + 1, distance[i - 1] + 1, far});
      lowest = std::min(lowest, distance[i]);
    }
    if (lowest >= least) return true;
  }
  return distance[x.size()] >= least;
}

}  // namespace rstar
