// Options that several verbs share: ConfigurationOption, SocketOption and JSONOption.

import ArgumentParser
import Daemon

struct ConfigurationOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Configuration file; *.yaml of its .d directory are merged over it.",
            valueName: "file"))
    var config = ConfigurationFiles.defaultPath
}

struct SocketOption: ParsableArguments {
    @Option(help: ArgumentHelp("The daemon's unix socket.", valueName: "path"))
    var socket = AdminClient.defaultPath

    var client: AdminClient { AdminClient(socketPath: socket) }
}

struct JSONOption: ParsableArguments {
    @Flag(help: "Print JSON, for scripts.")
    var json = false
}
