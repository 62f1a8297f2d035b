#include "columns.h"

namespace rstar {

pybind11::dict to_numpy(Columns&& columns) {
  pybind11::dict arrays;
  arrays["node"] = to_numpy(std::move(columns.node));
  arrays["parent"] = to_numpy(std::move(columns.parent));
  arrays["first_child"] = to_numpy(std::move(columns.first_child));
  arrays["child_count"] = to_numpy(std::move(columns.child_count));
  arrays["depth"] = to_numpy(std::move(columns.depth));
  arrays["visits"] = to_numpy(std::move(columns.visits));
  arrays["value_sum"] = to_numpy(std::move(columns.value_sum));
  arrays["value"] = to_numpy(std::move(columns.value));
  arrays["score"] = to_numpy(std::move(columns.score));
  arrays["terminal"] = to_numpy(std::move(columns.terminal));
  return arrays;
}

}  // namespace rstar
