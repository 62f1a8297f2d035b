// What the tree costs beside the models: searches whose evaluator is free (a child's value is a hash of where it is).
//
// Two kinds of search. *Simulations* are those of classical tree search: a walk from the root to a node that was never
// visited, whose value is backed up; a node gets its children on its second visit. *Rollout steps* are those of DESIGN.md: every
// leaf gets its children, scored, and the rollout goes on to a terminal.
#pragma once

#include <cstdint>
#include <string>

namespace rstar::microbench {

struct Setting {
  uint32_t trees = 1;
  uint32_t open = 0;  // trees in the forest at a time, the others follow as trees end; 0: all from the start
  uint64_t simulations = 10'000;  // of each tree; rollouts where `rollouts`
  uint32_t children = 32;
  uint32_t depth = 16;
  uint32_t in_flight = 1;
  uint32_t batch = 1;  // leaves a select
  uint32_t threads = 1;
  bool rollouts = false;
  double c = 2.0;
};

struct Measured {
  double seconds;
  uint64_t leaves;  // handed out: rollout steps, or simulations and expansions
  uint64_t nodes;
  uint64_t reserved_bytes;
  double root_value;  // the mean value at the first tree's root: the same for the same setting on one thread
};

// One tree, one simulation at a time, by the functions of tree.h alone.
Measured single(const Setting& setting);

// Threads that each select from, and give back to, one forest. `repeats` times on the same forest, its trees removed in between:
// memory is fresh the first time and recycled after it. Returns the last time. Where trees follow each other, the time has their
// adding and removing in it.
Measured forest(const Setting& setting, uint32_t repeats);

// Nanoseconds that a cache line takes from one core to another, on average of many times to and fro between two threads: what
// sharing costs on this machine, now.
double handover();

}  // namespace rstar::microbench
