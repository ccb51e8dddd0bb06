// The command line: one file a verb.

import ArgumentParser
import Daemon

@main
struct Shuck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shuck",
        abstract: "Strips the outer IP header in user space and injects the inner packet.",
        version: Build.version,
        subcommands: [RunCommand.self])
}
