// worker-bench CONFIG FRAMES [ROUTES]: works off FRAMES frames that wait in the ring, then says so.

import Daemon
import Foundation

let arguments = CommandLine.arguments
guard arguments.count >= 3, let frames = Int(arguments[2]) else {
    FileHandle.standardError.write(Data("usage: worker-bench CONFIG FRAMES [ROUTES]\n".utf8))
    exit(2)
}
do {
    let result = try WorkerBench.drain(
        configurationPath: arguments[1], frames: frames,
        extraRoutes: arguments.count > 3 ? Int(arguments[3]) ?? 0 : 0)
    print(
        """
        {"received":\(result.received),"injected":\(result.injected),"writes":\(result.writes)}
        """)
} catch {
    FileHandle.standardError.write(Data("worker-bench: \(error)\n".utf8))
    exit(3)
}
