// The hidden verb that `shuck selftest` starts its daemon by.

import ArgumentParser
import Foundation
import LinuxIO

/// Becomes `shuck` with other arguments, in another network namespace. Ends with the process that started it,
/// whatever ends that.
struct SelfTestChild: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "selftest-child", shouldDisplay: false)

    @Argument var parent: Int32
    @Argument var namespace: String
    @Argument(parsing: .captureForPassthrough) var words: [String]

    func run() throws {
        do throws(SystemError) {
            try Host.endWithParent(parent)
            try NetworkNamespace(namespace).join()
        } catch {
            throw Failure(code: .notHere, message: "\(error)")
        }
        // Refused in some containers; then shuck sees the links of the host there, and places its worker by
        // them.
        Host.mountOwnSysfs()
        let error = try Result { () throws(SystemError) in Program.become(try Program.path(), words) }.get()
        throw Failure(code: .notHere, message: "\(error)")
    }
}
