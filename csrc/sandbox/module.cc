// Bindings only: the sandbox's two sides, for Python to put together.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "blocks.h"
#include "confine.h"
#include "filter.h"
#include "guest.h"
#include "kernel.h"
#include "memory.h"
#include "supervisor.h"

namespace py = pybind11;
using namespace rstar;

namespace {

// A descriptor of another process, as one of this process.
int take_descriptor(pid_t process, int descriptor) {
  const int handle = static_cast<int>(syscall(kernel::kPidfdOpen, process, 0));
  const int taken = handle < 0 ? -1 : static_cast<int>(syscall(kernel::kPidfdGetfd, handle, descriptor, 0));
  const int error = errno;
  if (handle >= 0) close(handle);
  if (taken < 0) throw std::system_error(error, std::generic_category(), "pidfd_getfd");
  return taken;
}

py::object bytes_of(const Output& output) { return py::make_tuple(py::bytes(output.head()), output.left_out(), py::bytes(output.tail())); }

}  // namespace

PYBIND11_MODULE(_sandbox, m) {
  m.doc() = "The parts of the sandbox: what a process gives up, the confined side and the side that watches it.";
  // Where the kernel lacks something: an OSError with its number.
  py::register_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (const std::system_error& error) {
      py::object os_error = py::module_::import("builtins").attr("OSError")(error.code().value(), error.what());
      PyErr_SetObject(PyExc_OSError, os_error.ptr());
    }
  });

  m.attr("NEW_USER") = py::int_(CLONE_NEWUSER);
  m.attr("NEW_MOUNTS") = py::int_(CLONE_NEWNS);
  m.attr("NEW_PROCESSES") = py::int_(CLONE_NEWPID);
  m.attr("NEW_NETWORK") = py::int_(CLONE_NEWNET);
  m.attr("NEW_IPC") = py::int_(CLONE_NEWIPC);
  m.attr("NEW_NAMES") = py::int_(CLONE_NEWUTS);
  m.def("leave_namespaces", &leave_namespaces, py::arg("flags"), "Leaves the namespaces that `flags` (NEW_...) name for new ones.");
  m.def("mount_base", &mount_base, py::arg("base"), py::arg("scratch_bytes"), py::arg("scratch_files"),
        "Mounts a file system in memory over the folder `base`, with base/root, empty, and base/scratch, limited.");
  m.def("change_root", &change_root, py::arg("base"), py::arg("readable"),
        "Makes base/root the root: in it the `readable` paths, read-only, some devices, and the scratch folder as /scratch and /tmp.");
  m.def("restrict_files", &restrict_files, py::arg("readable"), py::arg("writable"),
        "Landlock; `writable` may be empty. Returns the version of the kernel's.");
  m.def("drop_capabilities", &drop_capabilities, "Gives up all capabilities, for good.");
  m.def(
      "limit_resources",
      [](uint64_t memory_bytes, uint64_t file_bytes, uint32_t processor_seconds, uint32_t descriptors) {
        limit_resources({memory_bytes, file_bytes, processor_seconds, descriptors});
      },
      py::kw_only(), py::arg("memory_bytes"), py::arg("file_bytes"), py::arg("processor_seconds"), py::arg("descriptors"),
      "Sets resource limits; memory is counted on top of what is mapped now.");
  m.def(
      "install_filter", [](bool supervised, bool may_write) { return install_filter({supervised, may_write}); }, py::kw_only(),
      py::arg("supervised"), py::arg("may_write"),
      "Installs the system-call filter; returns the descriptor at which the supervisor is asked, -1 where there is none.");
  m.def("gather_memory", &gather_memory, "Has Python's memory from now on lie in one piece, which huge pages then fill.");
  m.def("prepare_forks", &prepare_forks, "Arranges this process's memory so that forks of it, and of its children, are cheap.");
  m.def("fix_addresses", &fix_addresses,
        "Has what this process executes from now on lie at the same addresses in every run; False where it does already, or cannot.");
  m.def("can_place_blocks", &can_place_blocks, "Whether this Python's memory is laid out in a way that is known here.");
  m.def("name_blocks", &name_blocks, py::arg("loaded"), "Says what is being loaded, from which blocks of memory have their names.");
  m.def("spread_blocks", &spread_blocks, "Has each block of memory lie on a page of its own from now on.");
  m.def("written_blocks", &written_blocks, "Of the spread blocks, the names of those that a fork has written.");
  m.def("place_blocks", &place_blocks, py::arg("names"), "Has the blocks of these names, in rising order, lie side by side from now on.");
  m.def("leave_blocks", &leave_blocks, "Has blocks lie where Python puts them from now on.");
  m.def("take_descriptor", &take_descriptor, py::arg("process"), py::arg("descriptor"),
        "A descriptor of another process, as one of this process.");

  m.attr("GUEST_INPUT") = py::int_(static_cast<int>(kGuestInput));
  m.attr("GUEST_OUTPUT") = py::int_(static_cast<int>(kGuestOutput));
  m.attr("GUEST_ERRORS") = py::int_(static_cast<int>(kGuestErrors));
  m.attr("GUEST_REPORTS") = py::int_(static_cast<int>(kGuestReports));
  m.attr("GUEST_PROGRAM") = py::int_(static_cast<int>(kGuestProgram));
  m.attr("GUEST_END") = py::int_(static_cast<int>(kGuestEnd));
  m.def("prepare_guest", &prepare_guest, "Once, in the first guest: remembers what a fork has to set right.");
  m.def("await_supervisor", &await_supervisor, "Waits until the supervisor wakes it.");
  m.def("next_program", [] { return py::bytes(next_program()); }, "Waits to be forked; returns in the child, with its program.");
  m.def("report_value", [](const py::bytes& piece) { report_value(std::string_view(piece)); }, py::arg("piece"),
        "Tells the supervisor a piece of the value's text, 32 KiB at most, before the report.");
  m.def("report", [](const py::bytes& result) { report(std::string_view(result)); }, py::arg("result"),
        "Tells the supervisor what came of the program.");

  py::class_<Output>(m, "Output", "Of a stream of bytes its beginning and its end, `limit` bytes together.")
      .def(py::init<size_t>(), py::arg("limit"))
      .def("add", [](Output& output, const py::bytes& data) { output.add(std::string_view(data)); }, py::arg("data"))
      .def("skip", &Output::skip, py::arg("bytes"), "As if so many bytes came that nobody will ask for.")
      .def("copy", [](const Output& output) { return Output(output); }, "A copy that goes on by itself.")
      .def_property_readonly("parts", &bytes_of, "(beginning, number of bytes left out, end)");

  py::enum_<End>(m, "End", "How a run ended.")
      .value("REPORTED", End::kReported)
      .value("DIED", End::kDied)
      .value("TIMED_OUT", End::kTimedOut)
      .value("NO_CHILD", End::kNoChild);

  py::class_<Outcome>(m, "Outcome", "What came of a run.")
      .def_readonly("end", &Outcome::end)
      .def_property_readonly("report", [](const Outcome& outcome) { return py::bytes(outcome.report); })
      .def_property_readonly("value", [](const Outcome& outcome) { return py::bytes(outcome.value); })
      .def_readonly("child", &Outcome::child, "the child that has reported, -1 without")
      .def_readonly("may_be_kept", &Outcome::may_be_kept, "what the child is can be forked")
      .def_readonly("guest_waits", &Outcome::guest_waits, "the guest that was forked waits as before; else it is to be ended")
      .def_readonly("status", &Outcome::status, "of a child that died, as os.wait has it")
      .def_readonly("processor_s", &Outcome::processor_s)
      .def_readonly("used_up", &Outcome::used_up, "it timed out as it had used more processor time than it might")
      .def_readonly("private_bytes", &Outcome::private_bytes, "at most so much memory is the child's alone");

  m.def(
      "open_channels",
      [] {
        const Channels c = open_channels();
        return py::make_tuple(c.output, c.guest_output, c.reports, c.guest_reports, c.program, c.guest_program);
      },
      "Descriptors of the supervisor's end and the guests' end of each: the pipe for output, the socket for reports, the program.");
  m.def("hear", [](int reports) { return py::bytes(hear(reports)); }, py::arg("reports"),
        "The next report of a guest that is not yet forked; empty when it has ended.");

  py::class_<Supervisor>(m, "Supervisor", "Has programs run in children of guests, and decides what they may.")
      .def(py::init([](int output, int reports, int program, int guest_program, int listener, int owner, pid_t keeper) {
             return Supervisor({output, reports, program, guest_program, listener, owner, keeper});
           }),
           py::kw_only(), py::arg("output"), py::arg("reports"), py::arg("program"), py::arg("guest_program"), py::arg("listener"),
           py::arg("owner"), py::arg("keeper"))
      .def("adopt", &Supervisor::adopt, py::arg("guest"), "Makes a guest known that waits to be forked.")
      .def(
          "run",
          [](Supervisor& supervisor, pid_t guest, const py::bytes& program, double timeout_s, double processor_s, Output& output) {
            return supervisor.run(guest, std::string_view(program), timeout_s, processor_s, output);
          },
          py::arg("guest"), py::arg("program"), py::arg("timeout_s"), py::arg("processor_s"), py::arg("output"),
          "Runs a program in a child of `guest`; what it prints goes on from `output`.")
      .def("end", &Supervisor::end, py::arg("guest"), "Kills a guest and waits for its end.")
      .def("end_kept", &Supervisor::end_kept, py::arg("guest"), "Kills a guest that was kept; its end may come later.")
      .def("end_all", &Supervisor::end_all, "Kills all guests and waits for their ends; nothing can be run after.");
}
