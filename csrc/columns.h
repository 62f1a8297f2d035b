// A vector of C++ as a NumPy array, without copying: the array owns the vector.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <utility>
#include <vector>

#include "forest.h"

namespace rstar {

template <typename T>
pybind11::array_t<T> to_numpy(std::vector<T>&& values) {
  auto owner = std::make_unique<std::vector<T>>(std::move(values));
  T* data = owner->data();
  const auto size = static_cast<pybind11::ssize_t>(owner->size());
  pybind11::capsule keeper(owner.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
  owner.release();
  return pybind11::array_t<T>({size}, {static_cast<pybind11::ssize_t>(sizeof(T))}, data, keeper);
}

// The columns of types.TREE_COLUMNS, and `node`: the nodes' indices in the forest.
pybind11::dict to_numpy(Columns&& columns);

}  // namespace rstar
