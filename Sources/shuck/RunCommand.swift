// shuck run: the daemon in the foreground.

import ArgumentParser
import Daemon

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Forward until SIGTERM. SIGHUP reloads the configuration.")

    @OptionGroup var file: ConfigurationOption

    func run() throws {
        throw ExitCode(Supervisor.run(configurationPath: file.config))
    }
}
