// shuck engine: the part of a daemon that forwards. `run` starts it.

import ArgumentParser
import Daemon

struct EngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "engine", shouldDisplay: false)

    @Option(help: .private)
    var connection: Int32
    @Option(help: .private)
    var parent: Int32

    func run() throws { throw ExitCode(EngineProgram.run(connection: connection, parent: parent)) }
}
