// Trees as columns: into NumPy without copying, and checked before anybody follows an index of theirs.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "forest.h"

namespace rstar {

template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;  // another dtype is an error, not a silent copy

template <typename T>
std::span<const T> span_of(const Array<T>& array, const std::string& name) {
  if (array.ndim() != 1) throw UsageError(name + " has " + std::to_string(array.ndim()) + " dimensions: give one");
  return {array.data(), static_cast<size_t>(array.size())};
}

// The array owns the vector.
template <typename T>
pybind11::array_t<T> to_numpy(std::vector<T>&& values) {
  auto owner = std::make_unique<std::vector<T>>(std::move(values));
  T* data = owner->data();
  const auto size = static_cast<pybind11::ssize_t>(owner->size());
  pybind11::capsule keeper(owner.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
  owner.release();
  return pybind11::array_t<T>({size}, {static_cast<pybind11::ssize_t>(sizeof(T))}, data, keeper);
}

// The columns of types.TREE_COLUMNS and, where the forest keeps notes, of types.TREE_TEXTS; and `node`: the nodes' indices in the
// forest.
pybind11::dict to_numpy(Columns&& columns);

// What is wrong with a tree's columns: the first row that does not fit the others, as "column 'x', row n, is ..., expected ...";
// "" where nothing is. The columns are those of types.TREE_COLUMNS and TREE_TEXTS with their types and lengths.
std::string fault_of_tree(const pybind11::dict& columns);

}  // namespace rstar
