// How a process's memory is laid out so that a fork of it, and of its children in turn, costs little. A fork copies an entry for
// each page, or each huge page, and links every mapping that has pages of its own to those of all the forks before it.
#pragma once

namespace rstar {

// Has Python take its memory from now on from one piece, where pages lie side by side: huge pages fill it later.
void gather_memory();

// When all is loaded: puts memory into huge pages where the kernel can, and the pages that loading a library has written,
// relocations mostly, into a file in memory that is mapped in their place and has no pages of its own.
void prepare_forks();

// Has programs that this process executes from now on lie at the same addresses in every run, where the kernel allows it: what
// depends on addresses, such as the order of a set of functions, is the same then. False where it was so before, or cannot be.
bool fix_addresses();

}  // namespace rstar
