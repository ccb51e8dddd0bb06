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

struct ConfigurationOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Configuration file; *.yaml of its .d directory are merged over it.",
            valueName: "file"))
    var config = ConfigurationFiles.defaultPath
}
