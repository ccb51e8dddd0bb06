// shuck run: the daemon in the foreground.

import ArgumentParser
import Daemon

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Forward until SIGTERM. SIGHUP reloads the configuration.")

    @OptionGroup var file: ConfigurationOption

    @Flag(
        help: """
            Exit with 3 rather than start on a fallback: a claim by raw sockets instead of a BPF \
            program, plain writes instead of io_uring, no coalescing, no claim of probes.
            """)
    var strict = false

    func run() throws {
        throw ExitCode(Supervisor.run(configurationPath: file.config, isStrict: strict))
    }
}
