// Bindings only: arguments checked, the GIL released around every call into the forest that may take long, exceptions mapped.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "columns.h"
#include "extract_bindings.h"
#include "forest.h"
#include "microbench.h"

namespace py = pybind11;
using namespace rstar;

namespace {

Forest* make_forest(double c, double first_play_urgency, double virtual_loss, uint32_t in_flight, bool own_visits, bool reference,
                    uint32_t max_expansions, uint64_t most_out, bool notes, std::optional<Array<double>> log_table) {
  Rules rules{{c, first_play_urgency, virtual_loss}, own_visits, reference, max_expansions};
  if (!log_table) return new Forest(rules, LogTable(), in_flight, most_out, notes);
  const auto logs = span_of(*log_table, "log_table");
  return new Forest(rules, LogTable(std::vector<double>(logs.begin(), logs.end())), in_flight, most_out, notes);
}

// Appends a str as UTF-8; lone surrogates are kept.
void append_utf8(std::string& to, py::handle text) {
  if (!PyUnicode_Check(text.ptr())) throw UsageError("a text is a " + std::string(Py_TYPE(text.ptr())->tp_name) + ": give a str");
  Py_ssize_t size = 0;
  if (const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size)) {
    to.append(bytes, static_cast<size_t>(size));
    return;
  }
  PyErr_Clear();
  const auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogatepass"));
  if (!encoded) throw py::error_already_set();
  to += std::string_view(encoded);
}

struct NewNotes {
  std::vector<Note> notes;
  std::string bytes;
};

// notes: (texts, observations, answers, proposals), each with an entry for each child.
NewNotes notes_of(const py::tuple& given) {
  if (given.size() != Note::kTexts + 1) throw UsageError("notes are texts, observations, answers and proposals: give a tuple of the four");
  const auto proposals_array = given[Note::kTexts].cast<Array<uint32_t>>();
  const auto proposals = span_of(proposals_array, "proposals");
  std::array<py::tuple, Note::kTexts> texts;  // copies of the lists: nobody changes them meanwhile
  for (uint32_t which = 0; which < Note::kTexts; ++which) {
    texts[which] = py::tuple(py::reinterpret_borrow<py::sequence>(given[which]));
    if (texts[which].size() != proposals.size()) throw UsageError("texts, observations, answers and proposals must have one entry for each child");
  }
  NewNotes made;
  made.notes.resize(proposals.size());
  for (size_t child = 0; child < proposals.size(); ++child) {
    made.notes[child].proposals = proposals[child];
    for (uint32_t which = 0; which < Note::kTexts; ++which) {
      append_utf8(made.bytes, texts[which][child]);
      if (made.bytes.size() > std::numeric_limits<uint32_t>::max()) throw UsageError("the texts take more than 4 GiB: expand fewer leaves at a time");
      made.notes[child].ends[which] = static_cast<uint32_t>(made.bytes.size());
    }
  }
  return made;
}

py::tuple select_leaves(Forest& forest, size_t limit, unsigned threads) {
  std::vector<Leaf> leaves;
  std::vector<uint32_t> finished;
  {
    py::gil_scoped_release release;
    leaves = forest.select(limit, threads, finished);
  }
  std::vector<Ticket> tickets;
  std::vector<uint32_t> trees, nodes, depths;
  for (const Leaf& leaf : leaves) {
    tickets.push_back(leaf.ticket);
    trees.push_back(leaf.tree);
    nodes.push_back(leaf.node);
    depths.push_back(leaf.depth);
  }
  return py::make_tuple(to_numpy(std::move(tickets)), to_numpy(std::move(trees)), to_numpy(std::move(nodes)),
                        to_numpy(std::move(depths)), to_numpy(std::move(finished)));
}

py::array_t<Ticket> claim_leaves(Forest& forest, const Array<uint32_t>& trees, const Array<uint32_t>& lengths, const Array<Index>& nodes) {
  const auto tree_span = span_of(trees, "trees");
  const auto given_lengths = span_of(lengths, "lengths");
  const std::vector<uint32_t> length_span(given_lengths.begin(), given_lengths.end());  // nobody changes it between two looks
  const auto node_span = span_of(nodes, "nodes");
  std::vector<Ticket> tickets;
  {
    py::gil_scoped_release release;
    for (const Leaf& leaf : forest.claim(tree_span, length_span, node_span)) tickets.push_back(leaf.ticket);
  }
  return to_numpy(std::move(tickets));
}

Terminal terminal_of(uint8_t code) {
  if (code >= kTerminalCount) throw UsageError("terminal code " + std::to_string(code) + " is unknown: give 0 to 5");
  return static_cast<Terminal>(code);
}

py::array_t<Index> expand_leaves(Forest& forest, const Array<Ticket>& tickets, const Array<uint32_t>& counts, const Array<double>& values,
                                 const Array<float>& scores, const Array<uint8_t>& terminals, const std::optional<py::tuple>& notes) {
  const auto ticket_span = span_of(tickets, "tickets");
  const auto given_counts = span_of(counts, "counts");
  const std::vector<uint32_t> count_span(given_counts.begin(), given_counts.end());  // nobody changes it between two looks
  const auto value_span = span_of(values, "values");
  const auto score_span = span_of(scores, "scores");
  const auto terminal_span = span_of(terminals, "terminals");
  if (count_span.size() != ticket_span.size()) throw UsageError("counts must have one entry for each ticket");
  if (score_span.size() != value_span.size() || terminal_span.size() != value_span.size())
    throw UsageError("values, scores and terminals must have one entry for each child");
  std::vector<NewChild> children(value_span.size());
  for (size_t i = 0; i < children.size(); ++i) children[i] = {value_span[i], score_span[i], terminal_of(terminal_span[i])};
  const NewNotes made = notes ? notes_of(*notes) : NewNotes{};
  std::vector<Index> firsts;
  {
    py::gil_scoped_release release;
    firsts = forest.expand(ticket_span, count_span, children, made.notes, made.bytes);
  }
  return to_numpy(std::move(firsts));
}

py::list solutions_of(const Forest& forest, const Array<Ticket>& tickets) {
  const auto ticket_span = span_of(tickets, "tickets");
  std::vector<std::string> solutions;
  {
    py::gil_scoped_release release;
    solutions = forest.solutions(ticket_span);
  }
  py::list texts(solutions.size());
  for (size_t b = 0; b < solutions.size(); ++b) {
    const std::string& text = solutions[b];
    PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogatepass");
    if (made == nullptr) throw py::error_already_set();
    texts[b] = py::reinterpret_steal<py::str>(made);
  }
  return texts;
}

py::array_t<uint32_t> select_by(const std::string& name, const Array<double>& value_sums, const Array<uint32_t>& visits,
                                const Array<uint16_t>& in_flight, uint64_t parent_visits, uint32_t rollouts, double c,
                                double first_play_urgency, double virtual_loss) {
  const auto sums = span_of(value_sums, "value_sums");
  const auto counts = span_of(visits, "visits");
  const auto flying = span_of(in_flight, "in_flight");
  if (sums.empty() || counts.size() != sums.size() || flying.size() != sums.size())
    throw UsageError("value_sums, visits and in_flight must have one entry for each child, and one child at least");
  std::vector<Stats> children(sums.size());
  for (size_t i = 0; i < children.size(); ++i) {
    children[i].value_sum = sums[i];
    children[i].bits = Word::kVisit * counts[i] + Word::kVirtualVisit * flying[i];
  }
  const Uct uct = {c, first_play_urgency, virtual_loss};
  const auto count = static_cast<uint32_t>(children.size());
  const LogTable log;
  std::vector<uint32_t> chosen(rollouts);
  for (const Selector& able : selectors()) {
    if (able.name != name) continue;
    if (rollouts == 1)
      chosen[0] = able.one(children.data(), count, log(parent_visits), uct);
    else
      able.several(children.data(), count, parent_visits, log, uct, chosen);
    return to_numpy(std::move(chosen));
  }
  throw UsageError("there is no selector " + name + " on this machine: SELECTORS names those there are");
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "The search forest: many trees, selected, expanded and backed up in C++ without locks.";
  py::register_exception<UsageError>(m, "UsageError", PyExc_ValueError);

  py::class_<Forest>(m, "Forest", "Search trees under one set of rules; every method may be called from any thread.")
      .def(py::init(&make_forest), py::kw_only(), py::arg("c") = 2.0, py::arg("first_play_urgency") = 0.0,
           py::arg("virtual_loss") = 1.0, py::arg("in_flight") = 1, py::arg("own_visits") = false, py::arg("reference") = false,
           py::arg("max_expansions") = 0, py::arg("most_out") = 0, py::arg("notes") = false, py::arg("log_table") = py::none(),
           "in_flight: rollouts out at a time in a tree. most_out: leaves out at a time in all; 0 for no limit. notes: steps come with texts. own_visits: a new child with a value starts with one visit of it. log_table: [n] = ln(n) as float64, where "
           "selection must agree with another library's logarithm to the last bit.")
      .def("add_tree", &Forest::add_tree, py::arg("rollouts"), "Adds a tree that runs this many rollouts; its number.")
      .def("remove", &Forest::remove, py::arg("tree"), py::call_guard<py::gil_scoped_release>(),
           "Frees a tree none of whose leaves is out; its number may be given to a later tree.")
      .def("select", &select_leaves, py::arg("limit"), py::arg("threads") = 1,
           "Up to `limit` leaves from all trees: (tickets [B] int64, trees [B], nodes [B], depths [B], finished [F]) with "
           "uint32 for all but the tickets; finished names each tree once, when its last rollout has ended.")
      .def("claim", &claim_leaves, py::arg("trees").noconvert(), py::arg("lengths").noconvert(), py::arg("nodes").noconvert(),
           "Leaves that the caller chooses, as select hands them out: [B] int64 tickets. trees[b] uint32 is walked from its root over "
           "lengths[b] uint32 nodes, taken in order from nodes uint32. Where one is no leaf that may be had, UsageError says why, and "
           "nothing has changed.")
      .def(
          "leave",
          [](Forest& forest, const Array<Ticket>& tickets) {
            const auto ticket_span = span_of(tickets, "tickets");
            py::gil_scoped_release release;
            forest.leave(ticket_span);
          },
          py::arg("tickets").noconvert(),
          "Ends the rollouts whose leaves by these tickets have been expanded or closed, where they stand and without a visit; before a "
          "select goes on with them.")
      .def("stop", &Forest::stop, py::arg("tree"), py::call_guard<py::gil_scoped_release>(),
           "No rollout of the tree starts any more; those that wait end without a visit at the next select, which reports the tree "
           "finished once none of its leaves is out.")
      .def("extend", &Forest::extend, py::arg("tree"), py::arg("rollouts"), py::call_guard<py::gil_scoped_release>(),
           "Gives a tree so many rollouts more, also one that was reported finished, and will be again; a stopped one more than it has "
           "started.")
      .def("expand", &expand_leaves, py::arg("tickets").noconvert(), py::arg("counts").noconvert(), py::arg("values").noconvert(),
           py::arg("scores").noconvert(), py::arg("terminals").noconvert(), py::arg("notes") = py::none(),
           "Gives counts[b] uint32 children to the leaf of tickets[b] int64, in order from values float64 (NaN: none), scores "
           "float32 (NaN: none) and terminals uint8; where the forest keeps notes, with the children's (texts, observations, answers, "
           "proposals uint32). Returns the first child of each leaf, [B] uint32; siblings are "
           "consecutive. A wrong ticket raises UsageError and changes nothing.")
      .def("solutions", &solutions_of, py::arg("tickets").noconvert(),
           "The texts of the steps from the root to each leaf, one behind the other: [B] str. The tickets stay out.")
      .def(
          "backup",
          [](Forest& forest, const Array<Ticket>& tickets, const Array<double>& values) {
            const auto ticket_span = span_of(tickets, "tickets");
            const auto value_span = span_of(values, "values");
            py::gil_scoped_release release;
            forest.backup(ticket_span, value_span);
          },
          py::arg("tickets").noconvert(), py::arg("values").noconvert(),
          "Ends the rollouts at their leaves: adds values[b] float64 to every node from the leaf of tickets[b] to the root. The "
          "leaf stays unexpanded.")
      .def(
          "close",
          [](Forest& forest, Ticket ticket, uint8_t terminal, double value) {
            const Terminal code = terminal_of(terminal);
            py::gil_scoped_release release;
            forest.close(ticket, code, value);
          },
          py::arg("ticket"), py::arg("terminal"), py::arg("value"), "Makes the leaf terminal, with the value of rollouts that end there.")
      .def("cancel", &Forest::cancel, py::arg("ticket"), py::call_guard<py::gil_scoped_release>(),
           "Gives the leaf back: its rollout never happened, and another may claim the leaf.")
      .def(
          "columns",
          [](const Forest& forest, uint32_t tree) {
            std::optional<Columns> columns;
            {
              py::gil_scoped_release release;
              columns = forest.columns(tree);
            }
            return to_numpy(std::move(*columns));
          },
          py::arg("tree"), "The tree's columns by name, breadth-first, with its texts where the forest keeps notes; and `node`, the nodes' indices in the forest.")
      .def("root", &Forest::root, py::arg("tree"), "The index of the tree's root.")
      .def("in_flight", &Forest::in_flight, py::arg("tree"), py::call_guard<py::gil_scoped_release>(), "Virtual visits in the tree; 0 when no rollout is out.")
      .def("rollouts_ended", &Forest::rollouts_ended, py::arg("tree"), "Rollouts that have come to their end.");

  m.def("select_child", &select_by, py::arg("selector"), py::arg("value_sums").noconvert(), py::arg("visits").noconvert(),
        py::arg("in_flight").noconvert(), py::arg("parent_visits"), py::arg("rollouts") = 1, py::kw_only(), py::arg("c") = 2.0,
        py::arg("first_play_urgency") = 0.0, py::arg("virtual_loss") = 1.0,
        "Positions of the children that UCT chooses for rollouts one after another, [rollouts] uint32, by one of SELECTORS: value_sums "
        "float64, visits uint32, in_flight uint16, all [n]. Each rollout sees those before it as virtual visits. All selectors give the "
        "same; searches use the first.");
  m.def("fault_of_tree", &fault_of_tree, py::arg("columns"),
        "What is wrong with a tree's columns: the first row that does not fit the others; an empty text where all fit. types.Tree says "
        "which columns, and checks their types and lengths before.");
  bind_extraction(m);
  const auto result = [](const microbench::Measured& measured) {
    return py::dict(py::arg("seconds") = measured.seconds, py::arg("leaves") = measured.leaves, py::arg("nodes") = measured.nodes,
                    py::arg("reserved_bytes") = measured.reserved_bytes, py::arg("root_value") = measured.root_value);
  };
  m.def(
      "microbench_single",
      [result](uint64_t simulations, uint32_t children, uint32_t depth, double c) {
        microbench::Setting setting;
        setting.simulations = simulations;
        setting.children = children;
        setting.depth = depth;
        setting.c = c;
        py::gil_scoped_release release;
        const microbench::Measured measured = microbench::single(setting);
        py::gil_scoped_acquire acquire;
        return result(measured);
      },
      py::arg("simulations"), py::arg("children") = 32, py::arg("depth") = 16, py::arg("c") = 2.0,
      "What the tree costs with a free evaluator (csrc/microbench.h): one tree, one simulation at a time.");
  m.def(
      "microbench_forest",
      [result](uint32_t trees, uint64_t simulations, uint32_t open, uint32_t in_flight, uint32_t batch, uint32_t threads, bool rollouts, uint32_t repeats,
               uint32_t children, uint32_t depth, double c) {
        if (trees == 0 || simulations == 0 || batch == 0 || threads == 0 || repeats == 0 || children == 0)
          throw UsageError("trees, simulations, batch, threads, repeats and children: give 1 or more of each");
        const microbench::Setting setting{trees, open, simulations, children, depth, in_flight, batch, threads, rollouts, c};
        py::gil_scoped_release release;
        const microbench::Measured measured = microbench::forest(setting, repeats);
        py::gil_scoped_acquire acquire;
        return result(measured);
      },
      py::kw_only(), py::arg("trees"), py::arg("simulations"), py::arg("open") = 0, py::arg("in_flight") = 1, py::arg("batch") = 1024, py::arg("threads") = 1,
      py::arg("rollouts") = false, py::arg("repeats") = 1, py::arg("children") = 32, py::arg("depth") = 16, py::arg("c") = 2.0,
      "Threads that each select from, and give back to, one forest; its trees anew `repeats` times. The last time is measured. open: trees "
      "in the forest at a time, the others follow as trees end; 0: all from the start.");
  m.def("microbench_handover", &microbench::handover, py::call_guard<py::gil_scoped_release>(),
        "Nanoseconds that a cache line takes from core to core, between two threads; needs two cores.");
#if defined(__VERSION__)
  m.attr("COMPILER") = __VERSION__;
#else
  m.attr("COMPILER") = "unknown";
#endif
  py::list names;
  for (const Selector& selector : selectors()) names.append(selector.name);
  m.attr("SELECTORS") = py::tuple(names);
  m.attr("NODE_BYTES") = py::make_tuple(sizeof(Stats), sizeof(Links), sizeof(float) + sizeof(Block) / Block::kNodes);
}
