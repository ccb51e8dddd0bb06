// shuck run: the daemon in the foreground.

import ArgumentParser
import Daemon

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Forward until SIGTERM. SIGHUP reloads the configuration, SIGUSR2 upgrades.")

    @OptionGroup var file: ConfigurationOption

    @Flag(
        help: """
            Exit with 3 rather than start on a fallback: a claim by raw sockets instead of a BPF \
            program, plain writes instead of io_uring, no coalescing, no claim of probes.
            """)
    var strict = false

    @Flag(
        help: """
            Take over from the shuck that runs with the same admin.socket, without losing a packet; \
            it then exits with 0. Where none runs, start anew.
            """)
    var takeOver = false

    // An upgrade starts `run` with these.
    @Option(help: .private)
    var handOverDescriptor: Int32?
    @Flag(help: .private)
    var standIn = false

    func run() throws {
        let origin: Supervisor.Origin =
            if let handOverDescriptor {
                .connection(handOverDescriptor, standsIn: standIn)
            } else {
                takeOver ? .running : .start
            }
        throw ExitCode(Supervisor.run(configurationPath: file.config, isStrict: strict, from: origin))
    }
}
