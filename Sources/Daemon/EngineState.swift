// How the engine is, as it tells its supervisor.

import LinuxIO

struct EngineState: Codable, Equatable {
    /// The newest provision that every worker runs on.
    var settled: UInt64 = 0
    /// Of what workers are handed.
    var generation: UInt64 = 0
    /// Why it does not forward as asked; nil: it does.
    var unreadiness: String? = "shuck is starting"
    /// The first worker that stands still.
    var stillWorker: String?
    /// Why a worker ended without being told to.
    var failure: String?
    /// By device: what the kernel refused though it had agreed to it.
    var refused: [String: TunDevice.Offloads] = [:]
}
