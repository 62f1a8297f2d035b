// The confined side: a process that waits to be forked, and the child that runs a program and then waits likewise.
//
//   supervisor -- SIGUSR1 --> guest: clone --> child: "hello", reads the program, runs it, reports, waits
//
// While it waits a guest runs no Python and reads nothing: it learns no more of its children than that they are made. Children
// have the guest's parent for a parent: the supervisor, which counts, watches and ends them all.
#pragma once

#include <string>
#include <string_view>

namespace rstar {

// The descriptors of every guest; others it has none when it begins.
enum GuestDescriptor : int { kGuestInput = 0, kGuestOutput = 1, kGuestErrors = 2, kGuestReports = 3, kGuestProgram = 4, kGuestEnd = 5 };

// The flags of clone(2) with which a guest makes a child: a call with others is not made for the supervisor.
extern const unsigned long kForkFlags;

// What a message to the supervisor is about, its first byte.
enum class Message : char { kHello = 'h', kValue = 'v', kReport = 'r', kFailure = 'f' };

// Once for all guests, in the first: remembers what a fork has to set right.
void prepare_guest();

// Waits until the supervisor wakes it.
void await_supervisor();

// Waits; returns in a child, with the program it shall run.
std::string next_program();

// What came of the program: the text of its value, in pieces of 32 KiB at most, and then the rest, which ends the run.
void report_value(std::string_view piece);
void report(std::string_view result);

}  // namespace rstar
