// The extraction from stored trees, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace rstar {

void bind_extraction(pybind11::module_& m);

}  // namespace rstar
