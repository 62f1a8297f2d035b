// What a search writes about its steps: texts, and how often each was proposed. One byte arena for all trees.
//
// The notes of one family are one allocation: a header, a Note for each child, then the bytes of all texts. They are written
// before the family is published and never change after.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "arena.h"

namespace rstar {

struct Note {
  static constexpr uint32_t kTexts = 3;  // the step, what its code printed, the answer it gives: types.TREE_TEXTS in Python

  uint32_t ends[kTexts];  // where each text ends; it begins where the one before it ends
  uint32_t proposals;
};

class Notes {
 public:
  // Keeps a family's notes; `bytes` are those of its texts, in order. Throws std::length_error where they are too many.
  Index add(std::span<const Note> notes, std::string_view bytes) {
    const uint64_t size = sizeof(Header) + notes.size_bytes() + bytes.size();
    const uint64_t units = (size + sizeof(Unit) - 1) / sizeof(Unit);
    if (units > Space::kChunkSize)
      throw std::length_error("the texts of one expansion take " + std::to_string(bytes.size()) + " bytes: " +
                              std::to_string((Space::kChunkSize * sizeof(Unit)) >> 20) + " MiB is the most there is room for");
    const auto count = static_cast<uint32_t>(units);
    const Index at = space_.allocate(count, Link{*this});
    units_.ensure(at + Space::rounded(count) - 1);
    header(at).units = count;
    std::memcpy(notes_of(at), notes.data(), notes.size_bytes());
    std::memcpy(reinterpret_cast<char*>(notes_of(at)) + notes.size_bytes(), bytes.data(), bytes.size());
    return at;
  }
  void release(Index at) { space_.release(at, header(at).units, Link{*this}); }

  // A text of a child in a family of `count`.
  std::string_view text(Index at, uint32_t count, uint32_t child, uint32_t which) const {
    const Note* const notes = notes_of(at);
    const uint32_t begin = which > 0 ? notes[child].ends[which - 1] : child > 0 ? notes[child - 1].ends[Note::kTexts - 1] : 0;
    return {reinterpret_cast<const char*>(notes + count) + begin, notes[child].ends[which] - begin};
  }
  uint32_t proposals(Index at, uint32_t child) const { return notes_of(at)[child].proposals; }

 private:
  struct Header {
    std::atomic<Index> next_free;  // of a free one
    uint32_t units;
  };
  struct alignas(64) Unit {
    char bytes[64];
  };
  static constexpr uint32_t kChunkBits = 20;
  using Space = IndexSpace<kChunkBits, 1>;

  struct Link {
    Notes& notes;
    std::atomic<Index>& operator()(Index at) const { return notes.header(at).next_free; }
  };
  Header& header(Index at) { return *reinterpret_cast<Header*>(units_[at].bytes); }
  Note* notes_of(Index at) { return reinterpret_cast<Note*>(units_[at].bytes + sizeof(Header)); }
  const Note* notes_of(Index at) const { return reinterpret_cast<const Note*>(units_[at].bytes + sizeof(Header)); }

  Space space_;
  Chunked<Unit, kChunkBits, true> units_;
};

}  // namespace rstar
