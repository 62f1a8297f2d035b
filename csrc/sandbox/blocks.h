// Blocks of Python's memory that programs write, and how they come to lie side by side.
//
// Python counts references in the objects themselves, so that a program writes a few thousand of those that were there before it,
// one here, one there: a fork has to copy a page for nearly each. Which blocks these are is found once, by giving each block a page
// of its own and looking, in a fork, which pages were copied. Processes that load the same things later put those blocks together.
//
// A block's name is what was being loaded when it was asked for, and how many were asked for since: the same in every process that
// loads the same, wherever blocks lie. A name that no longer fits costs speed, nothing else.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace rstar {

using BlockName = uint64_t;  // what is being loaded << 32 | blocks since

// Whether this Python's allocator is the one whose ways are known here: a release build's, with its lock.
bool can_place_blocks();

// From now on blocks are counted from 0 again; `loaded` says what is being loaded.
void name_blocks(uint32_t loaded);

// From now on each block lies on a page of its own: about a gigabyte for what sympy takes.
void spread_blocks();

// In a fork: those of the spread blocks whose page was written since.
std::vector<BlockName> written_blocks();

// From now on the blocks of these names, in rising order, lie side by side.
void place_blocks(std::vector<BlockName> names);

// From now on blocks lie where Python puts them.
void leave_blocks();

}  // namespace rstar
